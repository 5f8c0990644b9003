"""The application of the simulator, and the judge of its lists: what it must catch, and what it must not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from distkit.sim import Broken, Call
from distkit.sim.chance import stream
from distkit.sim.objects import KINDS, Objects, ObjectsWorkload


class Group:
    """One application, as if all nodes were this one, and the workload that judges it."""

    def __init__(self) -> None:
        self.workload = ObjectsWorkload()
        self.application = Objects()
        self.index = 0

    def call(self, kind: str, key: str, value: int = 0, client: int = 1) -> tuple[Call, Any]:
        """A client begins; (call, what its answer is judged by)."""
        made = Call(0, client, 1, kind, key, value)
        return made, self.workload.called(made)

    def apply(self, call: Call) -> bytes:
        self.index += 1
        command = self.workload.command(call, stream(1, "x"))
        result = self.application.apply(self.index, 1, 0, command)
        self.workload.applied(self.index, command, result)
        return result

    def do(self, kind: str, key: str, value: int = 0, client: int = 1) -> Any:
        """From the call to the answer."""
        call, token = self.call(kind, key, value, client)
        if kind in ("read", "stale"):
            answer = self.workload.query(self.application, call)
        else:
            answer = self.apply(call)
        self.workload.answered(call, token, answer)
        return json.loads(answer) if isinstance(answer, bytes) else answer


def test_the_objects_do_what_they_say() -> None:
    group = Group()
    assert [group.do("append", "l0", value) for value in (5, 6)] == [1, 2]
    assert group.do("read", "l0")[0] == 2
    assert group.do("write", "r0", 4) is None
    assert group.do("read", "r0") == 4
    assert group.do("cas", "r0", 9 << 32 | 4) is True
    assert group.do("cas", "r0", 8 << 32 | 4) is False
    assert group.do("read", "r0") == 9
    assert [group.do("add", "n0", 3), group.do("add", "n0", 4)] == [3, 7]
    assert [group.do("enqueue", "q0", value) for value in (1, 2)] == [None, None]
    assert [group.do("dequeue", "q0") for _ in range(3)] == [1, 2, None]
    holders = [group.do("acquire", "m0", client=client) for client in (1, 2)]
    assert holders == [True, False]
    assert [group.do("release", "m0", client=client) for client in (2, 1)] == [False, True]
    assert group.do("acquire", "m0", client=2) is True


def test_a_snapshot_is_the_whole_state() -> None:
    group = Group()
    for kind, key in (("append", "l0"), ("write", "r0"), ("enqueue", "q0"), ("acquire", "m0"), ("add", "n0")):
        group.do(kind, key, 5)
    other = Objects()
    other.apply(1, 1, 0, b"write r9 1 1")
    chunks = group.application.snapshot()
    digest = group.application.digest()
    group.do("write", "r0", 6)  # the view was frozen before
    other.restore(chunks)
    assert other.digest() == digest != group.application.digest()
    assert other.apply(9, 1, 0, b"append l0 7 1") == b"2"


def test_a_list_that_is_served_rightly_is_not_accused() -> None:
    group = Group()
    assert group.do("read", "l0") is None
    first, token = group.call("append", "l0", 1)
    slow, early = group.call("read", "l0")
    result = group.apply(first)
    seen = group.workload.query(group.application, slow)
    group.workload.answered(slow, early, seen)
    group.workload.answered(first, token, result)
    group.do("append", "l0", 2, client=2)
    group.do("read", "l0")
    group.do("append", "l1", 3)


def test_a_stale_read_is_caught() -> None:
    group = Group()
    group.do("append", "l0", 1)
    old = group.workload.query(group.application, group.call("read", "l0")[0])
    group.do("append", "l0", 2)
    call, token = group.call("read", "l0")
    with pytest.raises(Broken, match="stale read") as caught:
        group.workload.answered(call, token, old)
    assert caught.value.rule == "linearizability"
    stale, token = group.call("stale", "l0")
    group.workload.answered(stale, token, old)  # nothing else was promised


def test_a_read_may_be_as_old_as_its_call() -> None:
    group = Group()
    call, token = group.call("read", "l0")
    old = group.workload.query(group.application, call)
    group.do("append", "l0", 1, client=2)
    group.workload.answered(call, token, old)


def test_reads_do_not_go_back() -> None:
    """What one client read, no later read of another may lack, even if its append was never answered."""
    group = Group()
    before = group.workload.query(group.application, group.call("read", "l0")[0])
    append, _ = group.call("append", "l0", 1)
    group.apply(append)
    group.do("read", "l0", client=2)
    call, token = group.call("read", "l0", client=3)
    with pytest.raises(Broken, match="stale read"):
        group.workload.answered(call, token, before)


def test_a_lost_append_is_caught_by_the_next_read() -> None:
    group = Group()
    call, token = group.call("append", "l0", 1)
    with pytest.raises(Broken, match="is not at 1"):
        group.workload.answered(call, token, b"1")  # it was never applied
    group = Group()
    group.do("append", "l0", 1)
    group.do("append", "l0", 2)
    forgetful = Objects()
    forgetful.apply(1, 1, 0, b"append l0 2 1")
    group.application = forgetful
    call, token = group.call("read", "l0")
    with pytest.raises(Broken, match="never was"):
        group.workload.answered(call, token, forgetful.values["l0"])


def test_an_append_that_went_elsewhere_than_it_says_is_caught() -> None:
    group = Group()
    group.do("append", "l0", 1)
    call, token = group.call("append", "l0", 2)
    group.apply(call)
    with pytest.raises(Broken, match="is not at 1"):
        group.workload.answered(call, token, b"1")


def test_an_append_behind_what_was_answered_before_its_call_is_caught() -> None:
    group = Group()
    call, _ = group.call("append", "l0", 1)
    result = group.apply(call)
    group.do("append", "l0", 2, client=2)
    again, token = group.call("append", "l0", 1)  # a new call, answered by what an older one did
    with pytest.raises(Broken, match="behind 2"):
        group.workload.answered(again, token, result)


@pytest.mark.parametrize("values", [[1, 2, 2], [2, 1], [1, 3], [1, 2, 3, 4]])
def test_a_list_with_other_values_is_caught(values: list[int]) -> None:
    """A duplicate, another order, another value, one too many."""
    group = Group()
    group.do("append", "l0", 1)
    group.do("append", "l0", 2)
    wrong = Objects()
    for value in values:
        wrong.apply(1, 1, 0, b"append l0 %d 1" % value)
    call, token = group.call("read", "l0")
    with pytest.raises(Broken, match="never was"):
        group.workload.answered(call, token, wrong.values["l0"])
    call, token = group.call("stale", "l0")
    with pytest.raises(Broken, match="never was"):
        group.workload.answered(call, token, wrong.values["l0"])


# -- the generator of calls -------------------------------------------------------------------------------------------


def calls(seed: int, count: int = 200) -> tuple[Call, ...]:
    return ObjectsWorkload().calls(stream(seed, "calls"), 3, 10.0, 4, count)


def test_written_values_are_unique() -> None:
    for seed in range(30):
        values = [(call.key, call.value) for call in calls(seed) if call.kind in ("write", "append", "enqueue", "cas")]
        assert len(values) == len(set(values))
        assert len(calls(seed)) == 200


def test_calls_come_in_time_from_all_clients_on_objects_that_know_them() -> None:
    for seed in range(30):
        found = calls(seed)
        assert [call.time for call in found] == sorted(call.time for call in found)
        assert all(0 <= call.time <= 10_000_000_000 for call in found)
        assert {call.client for call in found} == {1, 2, 3, 4}
        assert {call.node for call in found} <= {0, 1, 2, 3}
        for call in found:
            known = {*KINDS.get(call.key[:1], ()), "read", "stale"}
            assert call.kind in known or (call.kind, call.key) == ("transfer", "")


def test_every_object_and_every_kind_of_call_is_drawn() -> None:
    counts = Counter((call.key[:1], call.kind) for seed in range(60) for call in calls(seed))
    wanted = {(letter, kind) for letter, kinds in KINDS.items() for kind in kinds}
    wanted |= {(letter, "read") for letter in "rcln"} | {("l", "stale"), ("", "transfer")}
    assert wanted <= set(counts)


def test_keys_are_used_more_than_once_and_compare_and_set_succeeds_sometimes() -> None:
    """A generator that never met a key twice, or never guessed a value, would test nothing."""
    outcomes: Counter[bool] = Counter()
    for seed in range(20):
        group = Group()
        found = calls(seed)
        assert max(Counter(call.key for call in found).values()) > 5
        for call in found:
            if call.kind == "cas":
                outcomes[json.loads(group.apply(call))] += 1
            elif call.kind == "write":
                group.apply(call)
    assert min(outcomes[True], outcomes[False]) > 0.2 * sum(outcomes.values())


def test_the_last_calls_read_everything_and_append() -> None:
    found = calls(3)
    last = ObjectsWorkload().last_calls(found, [1, 3], 77)
    assert {call.key for call in last if call.kind == "read"} == {
        call.key for call in found if call.key[:1] in "rcln"
    } - {""}
    assert [call.kind for call in last if call.kind != "read"] == ["append"]
    assert {call.node for call in last} <= {1, 3}
    assert {call.time for call in last} == {77}
