"""The replicated half: a map whose commands are texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maelstrom_kv import LinearizableMap, cas_command, write_command
from maelstrom_wire import canonical

TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
).map(canonical)


def apply(machine: LinearizableMap, command: bytes) -> tuple[str, int]:
    body = json.loads(machine.apply(1, 1, 0, command))
    return body["type"], body.get("code", 0)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=20))
def test_it_is_a_map_with_compare_and_set(commands: list[tuple[str, str, str]]) -> None:
    machine, model = LinearizableMap(), dict[str, str]()
    for key, old, new in commands:
        held = model.get(key)
        expected = ("error", 20) if held is None else ("cas_ok", 0) if held == old else ("error", 22)
        assert apply(machine, cas_command(key, old, new)) == expected
        if expected[0] == "cas_ok":
            model[key] = new
        else:
            assert apply(machine, write_command(key, old)) == ("write_ok", 0)
            model[key] = old
        read = machine.get(key)
        assert read == model[key].encode()
    copy = LinearizableMap()
    copy.restore(machine.snapshot())
    assert copy.digest() == machine.digest()
    assert all(copy.get(key) == value.encode() for key, value in model.items())


def test_a_snapshot_is_frozen_when_it_is_taken() -> None:
    machine = LinearizableMap()
    apply(machine, write_command("0", "1"))
    before = machine.digest()
    chunks = machine.snapshot()
    apply(machine, write_command("0", "2"))
    copy = LinearizableMap()
    copy.restore(chunks)
    assert copy.digest() == before != machine.digest()


@pytest.mark.parametrize("command", [b"", b"w", b"w\0k", b"w\0k\0v\0x", b"c\0k\0v", b"x\0k\0v", b"\xff"])
def test_an_entry_of_another_version_changes_nothing(command: bytes) -> None:
    machine = LinearizableMap()
    apply(machine, write_command("0", "1"))
    before = machine.digest()
    assert apply(machine, command) == ("error", 12)
    assert machine.digest() == before


def test_a_damaged_snapshot_is_refused_and_the_state_stays() -> None:
    machine = LinearizableMap()
    apply(machine, write_command("0", "1"))
    (chunk,) = machine.snapshot()
    with pytest.raises(ValueError, match="one key"):
        machine.restore([chunk + b"x"])
    assert machine.get("0") == b"1"
