"""Clean Debian roots, and what runs in them: systemd, or one program as in a container.

mmdebstrap makes a root once, and each test gets a copy. systemd-nspawn gives what runs in it
namespaces and devices of its own. Nothing that listens there can be reached from outside.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.external_programs import program

SUITE: Final = "bookworm"
PASSED_ON: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
)  # fmt: skip
"""Variables that tell programs how to reach packages."""
CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_FILE")
"""Variables that name a file of certificates."""
COPIED: Final = "/etc/certificates-of-the-host.pem"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM: Final = "systemd,systemd-sysv,dbus"
OPTIONS: Final = (
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--aptopt=Acquire::Languages "none"',
)
"""Nothing is synced to the disk, and manuals and translations are left out."""
LATER: Final = "ca-certificates curl make nginx-light python3 python3-venv"
"""Packages that pages and the Dockerfile install; here they are only downloaded."""
LIMIT: Final = 60.0
"""Seconds within which a machine starts or stops."""
LONGEST: Final = 300.0
"""Seconds that a command may take; some install packages."""
Ended = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    """Return the environment of commands in a root; with it they reach packages."""
    found = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    found |= {name: COPIED for name in CERTIFICATES if name in os.environ}
    return {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", **found}


def make_root(path: Path) -> Path:
    """Make a minimal Debian with systemd at *path*.

    The packages that its copies will install are downloaded once, and its lists are kept, so that
    ``apt-get update`` in a copy has little to do.
    """
    tool = program("mmdebstrap", package="mmdebstrap")
    options = ["--variant=minbase", f"--include={SYSTEM}", "--skip=cleanup/apt/lists", *OPTIONS]
    made = _run([tool, "--quiet", *options, SUITE, str(path)], os.environ)
    assert made.returncode == 0, made.stderr
    shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
    for name in CERTIFICATES:
        if name in os.environ:
            shutil.copy(os.environ[name], path / COPIED.lstrip("/"))
    ended = run_in(path, f"apt-get install --yes --download-only {LATER}", {}, "/root")
    assert ended.returncode == 0, ended.stderr
    return path


def copy_root(made: Path, path: Path) -> Path:
    """Copy a root; return the copy."""
    subprocess.run(["/bin/cp", "--archive", "--reflink=auto", made, path], check=True)
    return path


def remove_root(path: Path) -> None:
    """Remove a root, or a folder of roots; Python's own way takes several times as long."""
    subprocess.run(["/bin/rm", "--recursive", "--one-file-system", path], check=True)


def run_in(root: Path, script: str, variables: Mapping[str, str], folder: str) -> Ended:
    """Run a shell script in a root as its root user, in the network outside."""
    change = f"mkdir -p {folder} && cd {folder} && {script}"
    return _run(["chroot", str(root), "sh", "-c", change], {**environment(), **variables})


class Running:
    """What systemd-nspawn runs.

    Args:
        pid: its first process, by the number outside.
        nspawn: systemd-nspawn itself.
    """

    def __init__(self, pid: int, nspawn: subprocess.Popen[bytes]) -> None:
        self.pid = pid
        self.nspawn = nspawn

    def run(self, script: str, folder: str = "/", *, online: bool = False) -> Ended:
        """Run a shell script beside it as root; in the network outside if *online*."""
        return self.call(["sh", "-c", f"cd {folder} && {script}"], online=online)

    def call(self, command: Sequence[str], *, online: bool = False) -> Ended:
        """Run a command beside it as root; in the network outside if *online*."""
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--root", *([] if online else ["--net"])]
        entered = ["nsenter", "--target", str(self.pid), *spaces, "--", *command]
        return _run(entered, environment())


@contextmanager
def nspawn(root: Path, *options: str, log: Path) -> Iterator[Running]:
    """Run something in a root, without a network; *log* gets its output."""
    tool = program("systemd-nspawn", package="systemd-container")
    apart = ["--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [tool, *apart, f"--directory={root}", *options],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        ) as made,
    ):  # fmt: skip
        try:
            yield Running(_first_process(made, log), made)
        finally:
            made.terminate()
            made.wait(LIMIT)


@contextmanager
def machine(root: Path, log: Path) -> Iterator[Running]:
    """Boot a machine, and wait until it has started everything."""
    with nspawn(root, "--boot", log=log) as found:
        end = time.monotonic() + LIMIT
        while True:
            told = found.run("systemctl is-system-running --wait").stdout.strip()
            if told in {"running", "degraded"}:
                break
            assert time.monotonic() < end, f"no systemd within {LIMIT:.0f} s: {log.read_text()}"
            time.sleep(0.05)
        yield found


def _first_process(made: subprocess.Popen[bytes], log: Path) -> int:
    """Return the process that runs in the root: the only child, once there is a root."""
    own = Path("/proc/self/ns/pid").stat().st_ino
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and made.poll() is None:
        for child in Path(f"/proc/{made.pid}/task/{made.pid}/children").read_text().split():
            try:
                if Path(f"/proc/{child}/ns/pid").stat().st_ino != own:
                    return int(child)
            except OSError:
                continue
        time.sleep(0.02)
    pytest.fail(f"systemd-nspawn started nothing: {log.read_text()}")


def _run(command: Sequence[str], variables: Mapping[str, str]) -> Ended:
    return subprocess.run(
        command, env=dict(variables), capture_output=True, text=True, timeout=LONGEST, check=False
    )
