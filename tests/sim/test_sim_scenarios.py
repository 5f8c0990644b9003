"""Scenario files: what is written is read back, and whatever else is in a file is refused with a clear text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit.core import LocalError
from distkit.sim import Call, Fault, Scenario, drawn, run
from distkit.sim.draw import PROFILES
from distkit.sim.faults import Faults
from distkit.sim.scenario import FATES, FAULTS, check, from_json, without_chance

FULL = Scenario(
    "raft",
    7,
    3,
    4.0,
    faults=(Fault(5, "crash", 0, 1.0, "kill"), Fault(9, "cut", 1, 0.5, "1>2 2>1")),
    calls=(Call(1, 1, 2, "append", "l0", 1), Call(2, 1, 3, "read", "l0", 0)),
    machine_options=(("heartbeat", 0.05), ("entries", 9)),
    script=((1, 2, 3, "drop", 0), (2, 1, 1, "late", 7)),
)
PLAIN = json.loads(FULL.to_json())


def changed(**changes: Any) -> str:
    """The file of FULL with other content."""
    return json.dumps(PLAIN | changes)


def within(part: str, **changes: Any) -> str:
    return changed(**{part: PLAIN[part] | changes})


def test_a_scenario_comes_back_from_its_file() -> None:
    assert from_json(FULL.to_json()) == FULL
    assert from_json(replace(FULL, script=None, faults=(), calls=()).to_json()).script is None


@pytest.mark.parametrize("profile", PROFILES)
def test_drawn_scenarios_come_back_from_their_files(profile: str) -> None:
    for seed in range(2 if profile in ("idle", "loaded") else 15):
        scenario = drawn(seed, profile)
        assert from_json(scenario.to_json()) == scenario


def test_a_drawn_scenario_knows_nothing_of_other_seeds() -> None:
    assert drawn(3) == drawn(3)
    assert drawn(3).faults != drawn(4).faults
    assert drawn(3).calls != drawn(4).calls


def test_what_a_run_was_made_of_repeats_it() -> None:
    """From a file, without any chance on the network: the same digest."""
    for seed in (1, 4, 9):
        outcome = run(drawn(seed))
        again = run(from_json(without_chance(outcome.scenario, outcome.fates).to_json()))
        assert (again.digest, again.events) == (outcome.digest, outcome.events)


def test_every_fault_that_is_drawn_may_stand_in_a_file_and_every_one_exists() -> None:
    kinds = {fault.kind for seed in range(100) for fault in drawn(seed, "swarm").faults}
    assert kinds <= set(FAULTS)
    assert all(hasattr(Faults, f"_{kind}") for kind in FAULTS)


BAD = {
    "nothing": "",
    "no JSON": "{",
    "bytes": "\x00\xff",
    "a list": "[]",
    "a number": "5",
    "another file": '{"seed": 5}',
    "nesting without end": "[" * 100_000,
    "a number without end": "1" * 10_000,
    "another version": changed(**{"distkit scenario": 2}),
    "a version of text": changed(**{"distkit scenario": "1"}),
    "no version": changed(**{"distkit scenario": None}),
    "no fields": '{"distkit scenario": 1}',
    "a field more": changed(extra=1),
    "a field of a fault more": changed(faults=[PLAIN["faults"][0] | {"extra": 1}]),
    "a fault without a kind": changed(faults=[{"time": 1, "node": 1}]),
    "a fault that is a number": changed(faults=[3]),
    "faults that are none": changed(faults=None),
    "calls that are text": changed(calls="abc"),
    "a call without a client": changed(calls=[{"time": 1, "node": 1, "kind": "read", "key": "l", "value": 0}]),
    "a network of text": changed(network="slow"),
    "a machine of a number": changed(machine=5),
    "nodes of text": changed(nodes="3"),
    "half a node": changed(nodes=2.5),
    "a truth of nodes": changed(nodes=True),
    "no nodes": changed(nodes=0),
    "too many nodes": changed(nodes=10),
    "less than none": changed(nodes=-1),
    "no time": changed(seconds=0),
    "too much time": changed(seconds=1e9),
    "time that is no number": changed(seconds=float("nan")),
    "time without end": changed(seconds=float("inf")),
    "a seed of text": changed(seed="x"),
    "bytes of a number": changed(by_bytes=7),
    "more than all": changed(eager=1.5),
    "a fault of a node that is not there": changed(faults=[PLAIN["faults"][0] | {"node": 4}]),
    "a fault before the beginning": changed(faults=[PLAIN["faults"][0] | {"time": -1}]),
    "a fault at half a nanosecond": changed(faults=[PLAIN["faults"][0] | {"time": 0.5}]),
    "a fault that ends before it begins": changed(faults=[PLAIN["faults"][0] | {"seconds": -1.0}]),
    "a fault without end": changed(faults=[PLAIN["faults"][0] | {"seconds": float("inf")}]),
    "a fault of no kind": changed(faults=[PLAIN["faults"][0] | {"kind": "earthquake"}]),
    "a fault that is a door": changed(faults=[PLAIN["faults"][0] | {"kind": "start"}]),
    "a cut of words": changed(faults=[PLAIN["faults"][1] | {"detail": "one>two"}]),
    "a cut without an arrow": changed(faults=[PLAIN["faults"][1] | {"detail": "12"}]),
    "a hold of nothing": changed(faults=[PLAIN["faults"][1] | {"kind": "hold", "detail": "in"}]),
    "a hold of no way": changed(faults=[PLAIN["faults"][1] | {"kind": "hold", "detail": "up Note"}]),
    "an echo of words": changed(faults=[PLAIN["faults"][1] | {"kind": "echo", "detail": "in Note one"}]),
    "a mute of a peer that is not there": changed(
        faults=[PLAIN["faults"][1] | {"kind": "mute", "detail": "in Note 9"}]
    ),
    "a cut of three": changed(faults=[PLAIN["faults"][1] | {"detail": "1>2>3"}]),
    "a call of a node that is not there": changed(calls=[PLAIN["calls"][0] | {"node": 9}]),
    "a call of text": changed(calls=[PLAIN["calls"][0] | {"client": "x"}]),
    "a kind of a number": changed(calls=[PLAIN["calls"][0] | {"kind": 4}]),
    "messages that come before they leave": within("network", delay_min=-5),
    "a delay that is no whole number": within("network", delay_mean=0.5),
    "more messages lost than sent": within("network", loss=2),
    "a line that runs backwards": within("network", bandwidth=-1),
    "a line of text": within("network", bandwidth="fast"),
    "segments of nothing": within("disk", segment_bytes=0),
    "segments larger than memory": within("disk", segment_bytes=1 << 45),
    "a disk that is done before it begins": within("disk", delay_min=-1),
    "clocks that stand": within("clock", drift=1.0),
    "clocks without a number": within("clock", drift=float("nan")),
    "ticks before their time": within("clock", late=-1),
    "an option of text": changed(machine_options=[["heartbeat", "x"]]),
    "an option without a value": changed(machine_options=[["heartbeat"]]),
    "an option without a name": changed(machine_options=[[5, 5]]),
    "a script of numbers": changed(script=[1, 2]),
    "a strike too short": changed(script=[[1, 2, 3, "drop"]]),
    "a strike too long": changed(script=[[1, 2, 3, "drop", 0, 0]]),
    "a strike of no kind": changed(script=[[1, 2, 3, "burn", 0]]),
    "a strike of a list": changed(script=[[1, 2, 3, ["drop"], 0]]),
    "a strike into the past": changed(script=[[1, 2, 3, "late", -7]]),
    "a strike of half a message": changed(script=[[1, 2, 3.5, "late", 7]]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_scenario_is_refused_with_a_clear_text(what: str) -> None:
    with pytest.raises(LocalError) as caught:
        from_json(BAD[what])
    text = str(caught.value)
    assert any(word in text for word in ("scenario", "fault", "cut", "message", "option"))
    assert len(text) < 500


def test_the_text_names_what_is_wrong() -> None:
    with pytest.raises(LocalError, match="version 2; this program runs version 1"):
        from_json(BAD["another version"])
    with pytest.raises(LocalError, match="no fault 'earthquake'; there are crash, "):
        from_json(BAD["a fault of no kind"])
    with pytest.raises(LocalError, match="nodes of Scenario in a scenario must be between 0 and 9, not 10"):
        from_json(BAD["too many nodes"])
    with pytest.raises(LocalError, match="nodes of Scenario in a scenario must be int, not '3'"):
        from_json(BAD["nodes of text"])


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(FAULTS + FATES)
anything = st.recursive(
    leaves,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a file."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, each in items for found in paths(each, (*path, name)))]


PATHS = [path for path in paths(PLAIN) if path]


@settings(max_examples=300)
@given(st.sampled_from(PATHS), anything, st.booleans())
def test_a_file_with_anything_anywhere_is_a_scenario_or_refused(path: tuple[Any, ...], value: Any, gone: bool) -> None:
    data = json.loads(FULL.to_json())
    place = data
    for name in path[:-1]:
        place = place[name]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    try:
        scenario = from_json(json.dumps(data))
    except LocalError:
        return
    check(scenario)
    assert from_json(scenario.to_json()) == scenario


@settings(max_examples=200)
@given(st.text(max_size=100) | anything.map(json.dumps))
def test_any_text_is_a_scenario_or_refused(text: str) -> None:
    with pytest.raises(LocalError):
        from_json(text)


@settings(max_examples=100)
@given(st.integers(0, len(FULL.to_json()) - 1), st.characters())
def test_a_file_with_a_wrong_character_is_a_scenario_or_refused(position: int, char: str) -> None:
    text = FULL.to_json()
    try:
        from_json(text[:position] + char + text[position + 1 :])
    except LocalError:
        pass


@given(st.integers(0, len(FULL.to_json()) - 1))
def test_a_file_that_was_cut_short_is_refused(length: int) -> None:
    with pytest.raises(LocalError):
        from_json(FULL.to_json()[:length])
