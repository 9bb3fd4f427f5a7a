"""The API as a process of its own, over a real socket."""

import http.client
import signal
import socket
from pathlib import Path

import httpx
import psutil

from api_process import KEY, Start, free_port, home, ready, start, until

__all__ = ["home", "start"]


def test_it_serves_and_stops(start: Start, home: Path):
    """One process answers, refuses what is too large in words, keeps %2F inside its segment, and ends cleanly on SIGTERM."""
    port = free_port()
    process = start(port)
    until(lambda: ready(port) or process.poll() is not None, "the API did not answer")
    owner = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"})

    for size in (1_048_577, 8_000_000):
        answer = owner.post("/v1/keys", content=b" " * size, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    head = owner.head("/v1/keys")
    assert (head.status_code, head.content) == (200, b"")
    assert owner.get("/v1/keys").status_code == 200
    for path in ("/v1/keys/1%2F2", "/%2F%2Fnowhere", "/v1%2Fkeys"):
        raw = http.client.HTTPConnection("127.0.0.1", port)
        raw.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        assert raw.getresponse().status == 404
        raw.close()
    owner.close()

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in (home / "api.log").read_text()


def test_a_taken_port_is_said_in_one_line(start: Start, home: Path):
    """If somebody listens on the port already, the start ends with one line that names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(port)
        assert process.wait(30) == 1
    output = (home / "api.log").read_text()
    assert len(output.strip().splitlines()) == 1
    assert str(port) in output


def test_several_processes_share_the_port(start: Start):
    """With two API processes both are called ``mailbase api``, one that dies is replaced, and all end together."""
    port = free_port()
    process = start(port, MAILBASE_API_WORKERS="2")
    parent = psutil.Process(process.pid)
    until(lambda: ready(port) or process.poll() is not None, "the API did not answer")
    until(lambda: len(parent.children()) == 2, "two processes")
    for child in parent.children():
        assert child.cmdline()[-2:] == parent.cmdline()[-2:]
        assert child.cmdline()[-1] == "api"
    victim = parent.children()[0]
    victim.kill()
    until(lambda: len([one for one in parent.children() if one.pid != victim.pid]) == 2, "the dead one was replaced")
    until(lambda: ready(port), "the API did not answer again")
    children = parent.children()

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_request_under_way_is_finished(start: Start):
    """SIGTERM in the middle of a request's body lets the request be answered."""
    port = free_port()
    process = start(port)
    until(lambda: ready(port) or process.poll() is not None, "the API did not answer")
    body = b'{"name": "late", "scopes": ["stats:read"]}'
    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    slow.putrequest("POST", "/v1/keys")
    for name, value in (
        ("Authorization", f"Bearer {KEY}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ):
        slow.putheader(name, value)
    slow.endheaders()
    slow.send(body[:10])
    until(lambda: ready(port), "the first part was read")
    process.send_signal(signal.SIGTERM)
    slow.send(body[10:])
    assert slow.getresponse().status == 201
    assert process.wait(20) == 0
