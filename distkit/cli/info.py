"""`info`: what runs here, and what this machine can do for it."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from typing import Any

import click

from distkit._fast import COMPILED
from distkit._fast.codec import CRC_IMPLEMENTATION
from distkit.core import limits
from distkit.node import SystemClock

#: Packages whose version matters when something is reported.
_PACKAGES = ("distkit", "trio", "google-crc32c", "click", "rich")


@click.command("info")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(as_json: bool) -> None:
    """Show versions, kernels, clock and limits: what to add to a report of a problem."""
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {_text(value)}")
    for warning in _warnings(facts):
        click.echo(f"warning: {warning}", err=True)


def _facts() -> dict[str, Any]:
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "kernels": "compiled" if COMPILED else "pure",
        "crc32c": CRC_IMPLEMENTATION,
        "clock_counts_suspend": SystemClock().counts_suspend,
        "open_files_max": _open_files_max(),
        "preallocates": hasattr(os, "posix_fallocate"),
        "entry_bytes_max": limits.ENTRY_BYTES_MAX,
        "frame_bytes_max": limits.FRAME_BYTES_MAX,
        "members_max": limits.MEMBERS_MAX,
    }


def _open_files_max() -> int | None:
    """Files and connections that this process may have; None where there is no such limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _warnings(facts: dict[str, Any]) -> list[str]:
    found = []
    if facts["kernels"] == "pure":
        found.append("the pure Python kernels are many times slower: install a C compiler and build again")
    if facts["crc32c"] != "c":
        found.append("google-crc32c has no C build here: checksums are some hundred times slower")
    if not facts["clock_counts_suspend"]:
        found.append("no clock counts suspend here: lease reads would be refused")
    if facts["open_files_max"] is not None and facts["open_files_max"] < 4096:
        found.append(f"only {facts['open_files_max']} open files are allowed: a server with many clients needs more")
    return found


def _text(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {number}" for name, number in value.items())
        case bool():
            return "yes" if value else "no"
        case None:
            return "no limit"
        case _:
            return str(value)
