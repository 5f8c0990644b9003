"""Does a seed give the same run in another process? If not: which step is the first that differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import zip_longest
from typing import Final

from distkit.core import LocalError
from distkit.sim.simulation import drawn

_SECONDS_MAX: Final = 600


def difference(seeds: range, profile: str, machine: str) -> str:
    """Run seeds in two processes with different hash seeds; "" if they agree, else the first step that differs.

    In one of them messages are looked at before and after each `receive`. What ends a run there is told, too.
    """
    drawn(seeds[0], profile, machine)  # a machine that can't run says so here, once
    arguments = ["sim", "--lines", "--seeds", f"{seeds.start}:{seeds.stop}", "--profile", profile, "--machine", machine]
    pair = _lines("1", *arguments, statuses=(0,)), _lines("2", *arguments, "--strict", statuses=(0,))
    if {*map(len, pair)} != {len(seeds)}:
        raise LocalError("a process that runs seeds did not run all of them")
    for line, other in zip(*pair, strict=True):
        one, two = json.loads(line), json.loads(other)
        if two["rule"] == "mutation":
            return f"seed {two['seed']}: {two['text']}"
        if one["digest"] != two["digest"] or one["rule"] != two["rule"]:
            return _first_step(one["seed"], profile, machine)
    return ""


def _first_step(seed: int, profile: str, machine: str) -> str:
    arguments = ["replay", str(seed), "--trace", "--profile", profile, "--machine", machine]
    for number, (one, two) in enumerate(zip_longest(_lines("1", *arguments), _lines("2", *arguments)), 1):
        if one != two:
            return (
                f"seed {seed} is not deterministic: step {number} is in one process\n    {one}\nand in another\n    "
                f"{two}\nLook for the order of a set or of hashes, id(), a clock, or chance that was not passed in."
            )
    return f"seed {seed} is not deterministic: its digests differ, though all steps that the trace shows are the same"


def _lines(hash_seed: str, *arguments: str, statuses: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    """What `python -m distkit` prints."""
    try:
        process = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-m", "distkit", *arguments],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
            process_group=0,  # Ctrl-C in a terminal is for this process, which then ends the other
        )
    except subprocess.TimeoutExpired:
        raise LocalError(f"a process ran seeds for more than {_SECONDS_MAX} s: give fewer of them") from None
    if process.returncode not in statuses:
        raise LocalError(f"a process that runs seeds failed with exit status {process.returncode}")
    return process.stdout.splitlines()
