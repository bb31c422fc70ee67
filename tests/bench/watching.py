"""Somebody at the console: reads the live tail, and asks for the overview, until killed.

Run as ``python -m tests.bench.watching URL``, the URL being that of the admin API.
"""

import sys
import threading
from urllib.request import urlopen

FRESH = 2.0
"""Seconds between two looks at the overview, as in the console."""


def look(api: str) -> None:
    """Ask for the overview again and again."""
    resting = threading.Event()
    while not resting.wait(FRESH):
        with urlopen(f"{api}/overview") as page:  # noqa: S310 - loopback, from the bench
            page.read()


def main() -> None:
    """Read, and say so once there is something."""
    api = sys.argv[1]
    threading.Thread(target=look, args=(api,), daemon=True).start()
    with urlopen(f"{api}/tail") as tail:  # noqa: S310 - loopback, from the bench
        tail.readline()
        print("watching", flush=True)
        while tail.readline():
            pass


if __name__ == "__main__":
    main()
