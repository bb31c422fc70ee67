"""The time from ``git clone`` to the first answered event with ``make run``, and its CPU.

``python -m tests.bench.first_run`` clones the last commit of this repository. It needs the ports
of ``make run``, and pip's cache or an index.
"""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from gateway.plugin.registry import load_plugins

ROOT = Path(__file__).parents[2]
GIT, MAKE = shutil.which("git") or "git", shutil.which("make") or "make"
URL = "http://127.0.0.1:8080"
HIDDEN = {"PYTHONPATH", "VIRTUAL_ENV"}
PATIENCE = 300.0


def main() -> None:
    """Measure and print."""
    environ = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    with tempfile.TemporaryDirectory() as place:
        began, before = time.perf_counter(), _cpu()
        clone = Path(place, "clone")
        subprocess.run([GIT, "clone", "--quiet", ROOT, clone], check=True)
        with subprocess.Popen([MAKE, "run"], cwd=clone, env=environ, process_group=0) as make:
            try:
                _until_answered(make, began + PATIENCE)
                taken = time.perf_counter() - began
            finally:
                os.killpg(make.pid, signal.SIGINT)
        print(f"{taken:.1f} s until the first answer, {_cpu() - before:.1f} s of CPU until the end")


def _until_answered(make: subprocess.Popen[bytes], deadline: float) -> None:
    example = load_plugins().inputs["personaclick"].example
    event = urllib.request.Request(  # noqa: S310 - loopback
        URL + example.url, example.body, {"content-type": "application/json"}
    )
    while time.perf_counter() < deadline and make.poll() is None:
        try:
            urllib.request.urlopen(event, timeout=1).close()  # noqa: S310 - loopback
        except urllib.error.URLError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("make run answered nothing")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
