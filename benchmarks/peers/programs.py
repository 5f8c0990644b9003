"""The peers' programs: installed from Debian and PyPI where possible, clients built from Debian's Go sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"  # compiled clients, the virtual environment and, while a run lasts, the servers' data
GO_SOURCES = HERE / "go"
DEBIAN_GO = Path("/usr/share/gocode")
PYSYNCOBJ = "pysyncobj==0.3.17"


class PeerMissing(Exception):
    """A peer is not installed and cannot be from here; the text says what to install."""


def require(packages: dict[str, str]) -> None:
    """Make sure of Debian packages, given as {package: a path it brings}; installs what is missing when run by root."""
    missing = [package for package, path in packages.items() if not Path(path).exists()]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PeerMissing(f"needs the Debian packages {' '.join(missing)}: sudo {' '.join(command)}")
    print("installing", *missing, file=sys.stderr)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update"], command):
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise PeerMissing(f"{' '.join(argv)} failed: {done.stderr[-500:]}")
    if "etcd-server" in missing and Path("/run/systemd/system").exists():
        # Debian starts the service it installed, which would share the cores with what is measured.
        subprocess.run(["systemctl", "disable", "--now", "etcd"], timeout=60, check=True)


def package_version(package: str) -> str:
    """The version of an installed Debian package."""
    query = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout


def go_version() -> str:
    """Such as go1.19.8."""
    query = ["go", "env", "GOVERSION"]
    return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def go_build(name: str, *sources: str) -> Path:
    """The program made of `sources`, compiled without a network from the libraries Debian packages.

    Compiled once: its name carries the digest of the sources and the compiler's version.
    """
    files = [GO_SOURCES / source for source in sources]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files) + go_version().encode()).hexdigest()[:12]
    program = BUILD / f"{name}-{digest}"
    if not program.exists():
        BUILD.mkdir(exist_ok=True)
        env = {"GOPATH": str(DEBIAN_GO), "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(BUILD / "go-cache")}
        argv = ["go", "build", "-o", str(program), *map(str, files)]
        done = subprocess.run(argv, env=os.environ | env, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise PeerMissing(f"go build of {name} failed: {done.stderr[-1000:]}")
    return program


def pysyncobj_python() -> Path:
    """The Python of a virtual environment that has PySyncObj, made on first use."""
    home = BUILD / "pysyncobj"
    python = home / "bin" / "python"
    wanted = home / PYSYNCOBJ  # an empty file: this version is installed
    if not wanted.exists():
        try:
            venv.create(home, with_pip=True, clear=True)
        except subprocess.CalledProcessError as error:
            raise PeerMissing("needs Python's venv module: sudo apt-get install python3-venv") from error
        argv = [str(python), "-m", "pip", "install", "--quiet", PYSYNCOBJ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise PeerMissing(f"pip install {PYSYNCOBJ} failed: {done.stderr[-500:]}")
        wanted.touch()
    return python
