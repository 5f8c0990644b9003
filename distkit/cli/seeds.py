"""Seeds in child processes: each runs its share and writes a JSON line for each, so a crash or a leak stays in one of
them."""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any, Final

import click

from distkit.core import LocalError
from distkit.sim.simulation import Outcome, drawn, run

#: A child that is silent for so many seconds hangs.
SILENCE_MAX: Final = 120.0
_SEEDS_MAX: Final = 100_000_000


def is_seed(text: str) -> bool:
    """Whether this is the number of a run."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def seeds_of(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """A:B, the seeds from A up to B, without B; the callback of an option."""
    first, _, end = value.partition(":")
    if not (is_seed(first) and is_seed(end) and int(first) < int(end) <= _SEEDS_MAX):
        text = f"{value!r:.100} is not a range of seeds: give A:B with A below B, such as 0:100, B up to {_SEEDS_MAX:,}"
        raise click.BadParameter(text, context)
    return int(first), int(end)


def line_of(seed: int, profile: str, outcome: Outcome) -> dict[str, Any]:
    """What a run has to say, for machines."""
    options = ["--profile", profile, "--machine", outcome.scenario.machine]
    return {
        "seed": seed,
        "profile": profile,
        "machine": outcome.scenario.machine,
        "rule": outcome.rule,
        "text": outcome.text,
        "digest": outcome.digest,
        "events": outcome.events,
        "virtual": round(outcome.virtual, 6),
        "acknowledged": outcome.acknowledged,
        "unknown": outcome.unknown,
        "refused": outcome.refused,
        "marks": outcome.marks,
        "reproduce": shlex.join(["python", "-m", "distkit", "replay", str(seed), *options]),
    }


def run_here(seeds: range, profile: str, machine: str, *, strict: bool = False) -> Generator[dict[str, Any]]:
    """Run seeds in this process."""
    for seed in seeds:
        yield line_of(seed, profile, run(drawn(seed, profile, machine), strict=strict))


def run_in_children(seeds: range, profile: str, machine: str, jobs: int) -> Generator[dict[str, Any]]:
    """Run seeds in `jobs` processes, each every `jobs`th of them; results come as they are ready.

    LocalError: a child died or hangs, with the seed that it was at.
    """
    drawn(seeds[0], profile, machine)  # a machine that can't run says so here, once
    lines: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    children = [_child(seeds[number::jobs], profile, machine) for number in range(min(jobs, len(seeds)))]
    try:
        for number, child in enumerate(children):
            threading.Thread(target=_read, args=(number, child, lines), daemon=True).start()
        open_, done = len(children), [0] * len(children)
        while open_:
            try:
                number, line = lines.get(timeout=SILENCE_MAX)
            except queue.Empty:
                raise LocalError(f"no seed was finished for {SILENCE_MAX:.0f} s: a run hangs") from None
            if line is not None:
                done[number] += 1
                yield json.loads(line)
                continue
            open_ -= 1
            status, share = children[number].wait(), seeds[number::jobs]
            if status != 0 or done[number] < len(share):
                seed = share[min(done[number], len(share) - 1)]
                raise LocalError(f"the process that ran seed {seed} failed with exit status {status}")
    finally:
        for child in children:
            child.kill()
            child.wait()


def _child(share: range, profile: str, machine: str) -> subprocess.Popen[str]:
    arguments = [f"{share.start}:{share.stop}", "--step", str(share.step), "--profile", profile, "--machine", machine]
    command = [sys.executable, "-m", "distkit", "sim", "--lines", "--seeds", *arguments]
    # A group of its own: Ctrl-C in a terminal is for the parent, which says so once and ends its children.
    return subprocess.Popen(  # noqa: S603 - ours
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, process_group=0
    )


def _read(number: int, child: subprocess.Popen[str], lines: queue.SimpleQueue[tuple[int, str | None]]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put((number, line))
    lines.put((number, None))
