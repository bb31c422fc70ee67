"""Somebody who watches: reads the live tail at the given address until killed.

Run as ``python -m tests.bench.watching URL``.
"""

import sys
from urllib.request import urlopen


def main() -> None:
    """Read, and say so once there is something."""
    with urlopen(sys.argv[1]) as tail:  # noqa: S310 - loopback, from the bench
        tail.readline()
        print("watching", flush=True)
        while tail.readline():
            pass


if __name__ == "__main__":
    main()
