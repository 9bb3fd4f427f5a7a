"""``python -m mailbase`` is ``mailbase``."""

from mailbase.cli import main

if __name__ == "__main__":
    main()
