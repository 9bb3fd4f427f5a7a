# One image, every part: `mailbase api`, `mailbase worker`, `mailbase migrate`.
# The steps are in docker/: they run the same in an empty Debian root, which is how they are tested.
FROM debian:12-slim
COPY docker/install.sh requirements.txt pyproject.toml README.md /build/
COPY src /build/src
COPY embed /build/embed
COPY migrations /build/migrations
RUN sh /build/install.sh && rm -rf /build
USER mailbase
ENV PATH=/opt/mailbase/bin:$PATH MAILBASE_HOST=0.0.0.0 MAILBASE_DATA_DIR=/var/lib/mailbase PYTHONUNBUFFERED=1
VOLUME /var/lib/mailbase
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["mailbase", "up"]
