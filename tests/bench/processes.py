"""Start processes and read their CPU time."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path


def cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of a process (Linux, schedstat)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def free_port() -> int:
    """Return a port of the loopback address that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


def until_listening(port: int, seconds: float = 10) -> None:
    """Wait until something listens at *port*.

    Raises:
        OSError: nothing does in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def serving(
    command: Sequence[str], port: int, core: int, environ: Mapping[str, str]
) -> Iterator[int]:
    """Run a program on one *core* with *environ* besides this process's; yield its process id.

    It is ready once it listens at *port*.

    Raises:
        RuntimeError: it does not get so far; the text has its output.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),  # noqa: PLW1509 - no thread forks here
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            until_listening(port, 30)
            yield process.pid
        except OSError as error:
            output.seek(0)
            raise RuntimeError(f"does not start: {output.read()[-2000:].strip()}") from error
        finally:
            process.terminate()
            process.wait(timeout=30)


CORE = 0
"""The core of what is measured; load and sinks have the others."""


@contextmanager
def off_core(core: int) -> Iterator[None]:
    """Run this process on all other cores than *core* meanwhile, if there are any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {core} or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    *command: str,
    marker: str = "",
    stdin: int | None = None,
    core: int | None = None,
    off_core: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``python -m`` *command*; yield the process and its first line that contains *marker*.

    With a marker, later output is read and discarded, because a full pipe would stop the process.
    It runs on one *core*, or on all others (*off_core*), and has *environ* besides this process's.
    """
    cores = os.sched_getaffinity(1)
    if core is not None:
        cores &= {core}
    if off_core is not None and len(cores) > 1:
        cores -= {off_core}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **(environ or {})},
        preexec_fn=partial(os.sched_setaffinity, 0, cores),  # noqa: PLW1509 - no thread forks here
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = ""
        for line in process.stdout:
            if marker in line:
                break
        else:
            raise SystemExit(f"{command} ended before it said {marker!r}: {line}")
        if marker:
            threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process, line.strip()
    finally:
        process.terminate()
        process.wait(timeout=30)
