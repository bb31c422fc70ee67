"""The command as a process: ``gateway``, and ``python -m gateway``.

A SIGHUP that comes while ``run`` or ``demo`` is being imported must not end it, so this module sees
to that before it imports anything else.
"""

import sys

from gateway import early_hangup

if {"run", "demo"} & set(sys.argv[1:2]):
    early_hangup.note()


def main() -> None:
    """Run the command."""
    from gateway.cli import main as command  # noqa: PLC0415 - it takes long to import

    command(prog_name="gateway")


if __name__ == "__main__":
    main()
