"""Clients: one call at a time, each ends in one way, and what was said about it must be true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from toys import MS, ToyMachine, Toys, ToyWorkload, fault

from distkit.core import Outcome, Reason
from distkit.replica import ReplicaReply
from distkit.sim import Call
from distkit.sim import Outcome as RunOutcome
from distkit.sim.chance import SECOND
from distkit.sim.linear import Operation

Policy = Callable[["Server", int, bytes], None]


class Server(ToyMachine):
    """Does with each proposal what the test says; reads are served at once. `asked` has all that came."""

    def begin(self, now: float) -> None:
        self.toys.servers[self.node] = self  # type: ignore[attr-defined]

    @property
    def applied_index(self) -> int:
        return self.toys.index  # type: ignore[attr-defined, no-any-return]

    def propose(self, now: float, ticket: int, content: bytes, *session: int) -> None:
        self.asked("propose", ticket, content, *session)
        self.toys.policy(self, ticket, content)  # type: ignore[attr-defined]

    def read(self, now: float, ticket: int) -> None:
        self.asked("read", ticket)
        self.toys.reads(self, ticket)  # type: ignore[attr-defined]

    def register(self, now: float, ticket: int) -> None:
        self.asked("register", ticket)
        self.toys.registers(self, ticket)  # type: ignore[attr-defined]

    def cancel(self, now: float, ticket: int) -> bool:
        self.asked("cancel", ticket)
        return bool(self.toys.cancels)  # type: ignore[attr-defined]

    def asked(self, door: str, *more: Any) -> None:
        self.toys.write("asked", self.node, door, *more)

    def end(self, ticket: int, outcome: Outcome, reason: Reason = Reason.NONE, result: bytes = b"") -> None:
        self.replies.append(ReplicaReply(ticket, outcome, 1, result, reason))

    def apply(self, content: bytes, result: bytes = b"done") -> None:
        self.toys.index += 1  # type: ignore[attr-defined]
        index = self.toys.index  # type: ignore[attr-defined]
        self.effects.append(lambda: self.host.world.clients.applied(index, content, result))

    def commit(self, ticket: int, content: bytes, result: bytes = b"done") -> None:
        self.apply(content, result)
        self.end(ticket, Outcome.COMMITTED, result=result)


class Notes(ToyWorkload):
    """Notes what it is told."""

    model = "register"

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.history: list[Operation] = []

    def query(self, application: Any, call: Call) -> Any:
        return f"state for {call.value}"

    def applied(self, index: int, command: bytes, result: bytes) -> None:
        self.told.append(("applied", command))

    def called(self, call: Call) -> Any:
        self.told.append(("called", call.value))
        return f"token {call.value}"

    def answered(self, call: Call, token: Any, answer: Any) -> None:
        self.told.append(("answered", call.value, token, answer))

    def operation(self, call: Call, answer: Any, called: float, returned: float) -> Operation | None:
        self.history.append(Operation(call.client, call.kind, call.value, answer, called, returned, call.key))
        return None


class Shop(Toys):
    """Toys with clients."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(Server)
        self.workload = self._make  # type: ignore[assignment]
        self.policy = policy
        self.reads: Callable[[Server, int], None] = lambda server, ticket: server.end(ticket, Outcome.READABLE)
        self.registers: Callable[[Server, int], None] = lambda server, ticket: server.end(
            ticket, Outcome.COMMITTED, result=(77).to_bytes(8, "little")
        )
        self.cancels = False
        self.index = 0
        self.servers: dict[int, Server] = {}
        self.notes = Notes()

    def _make(self) -> Notes:
        self.notes = Notes()
        return self.notes

    def serve(self, *calls: Call, sessions: bool = False, **changes: Any) -> RunOutcome:
        return self.run(calls=calls, sessions=sessions, **changes)

    def asked(self, door: str) -> list[tuple[Any, ...]]:
        """(time, node, ticket, ...) of every use of a door."""
        return [(each[0], each[2], *each[4:]) for each in self.diary if each[1] == "asked" and each[3] == door]


def call(number: int, milliseconds: int = 100, client: int = 1, node: int = 1, kind: str = "put") -> Call:
    return Call(milliseconds * MS, client, node, kind, "k", number)


def ending(outcome: Outcome, reason: Reason = Reason.NONE) -> Policy:
    return lambda server, ticket, content: server.end(ticket, outcome, reason)


def committing(server: Server, ticket: int, content: bytes) -> None:
    server.commit(ticket, content)


def test_a_committed_call_is_answered_and_stands_in_the_history() -> None:
    shop = Shop(committing)
    outcome = shop.serve(call(1), call(2, 200))
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 2, 0)
    assert shop.notes.told[:3] == [("called", 1), ("applied", b"put k 1"), ("answered", 1, "token 1", b"done")]
    first, second = shop.notes.history
    assert (first.output, first.called, first.returned) == (b"done", 100 * MS, 100 * MS)
    assert (second.called, second.returned) == (200 * MS, 200 * MS)


def test_a_client_has_one_call_at_a_time_in_its_order_and_others_do_not_wait() -> None:
    waiting: list[tuple[Server, int, bytes]] = []

    def late(server: Server, ticket: int, content: bytes) -> None:
        waiting.append((server, ticket, content))
        if content.endswith(b"3"):  # now that the other client is there, the first is served
            for each in waiting:
                each[0].commit(*each[1:])
            waiting.clear()

    shop = Shop(late)
    outcome = shop.serve(call(1), call(2, 110), call(3, 300, client=2))
    assert [content[-1:] for *_, content in shop.asked("propose")] == [b"1", b"3", b"2"]
    assert shop.asked("propose")[2][0] == 300 * MS
    assert (outcome.acknowledged, outcome.unknown) == (2, 1)  # what is under way at the end is unknown
    assert [each.returned for each in shop.notes.history] == [300 * MS, 300 * MS]  # and was never applied


def test_every_command_is_unique() -> None:
    shop = Shop(committing)
    shop.serve(*(call(7, 100 + number) for number in range(20)))
    contents = [content for *_, content in shop.asked("propose")]
    assert len(set(contents)) == 20
    assert {command for what, command, *_ in shop.notes.told if what == "applied"} == {b"put k 7"}


def test_an_answer_to_what_was_not_applied_is_a_lie() -> None:
    outcome = Shop(ending(Outcome.COMMITTED)).serve(call(1))
    assert outcome.rule == "tickets"
    assert "an answer to what was not applied" in outcome.text


@pytest.mark.parametrize("how", [Outcome.REFUSED, Outcome.SUPERSEDED])
def test_what_was_refused_is_tried_at_other_nodes_and_given_up(how: Outcome) -> None:
    shop = Shop(ending(how, Reason.BUSY))
    outcome = shop.serve(call(1), seconds=20.0)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 0)
    assert shop.notes.history == []
    attempts = shop.asked("propose")
    assert 3 <= len(attempts) <= 50
    assert [node for _, node, *_ in attempts[:4]] == [1, 2, 1, 2]
    assert len({content for *_, content in attempts}) == 1
    assert len({ticket for _, _, ticket, _ in attempts}) == len(attempts)
    assert outcome.marks[f"a call was {how.name.lower()}: busy"] == len(attempts)


def test_what_was_refused_must_not_have_taken_effect() -> None:
    def cheating(server: Server, ticket: int, content: bytes) -> None:
        if not server.toys.index:  # type: ignore[attr-defined]
            server.apply(content)
        server.end(ticket, Outcome.REFUSED)

    outcome = Shop(cheating).serve(call(1), seconds=20.0)
    assert outcome.rule == "tickets"
    assert "refused has taken effect" in outcome.text


def test_what_was_refused_must_not_take_effect_later() -> None:
    contents: list[bytes] = []

    def cheating(server: Server, ticket: int, content: bytes) -> None:
        if content.endswith(b"2"):
            server.apply(contents[0])
        contents.append(content)
        server.end(ticket, Outcome.SUPERSEDED)

    outcome = Shop(cheating).serve(call(1), call(2, 19_000, client=2), seconds=20.0)
    assert outcome.rule == "tickets"
    assert "refused takes effect" in outcome.text


def test_a_lost_call_is_unknown_at_once_and_may_take_effect_later() -> None:
    contents: list[bytes] = []

    def losing(server: Server, ticket: int, content: bytes) -> None:
        contents.append(content)
        if content.endswith(b"2"):
            server.apply(contents[0])
            server.commit(ticket, content)
        else:
            server.end(ticket, Outcome.LOST)

    shop = Shop(losing)
    outcome = shop.serve(call(1), call(2, 500))
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 1, 1)
    assert len(shop.asked("propose")) == 2
    # The history has it when it was applied.
    assert [(each.input, each.called, each.returned) for each in shop.notes.history] == [
        (2, 500 * MS, 500 * MS),
        (1, 100 * MS, 500 * MS),
    ]
    assert outcome.marks["a call ended without an answer"] == 1


def test_without_an_answer_a_client_gives_up_and_asks_to_cancel() -> None:
    shop = Shop(lambda server, ticket, content: None)
    outcome = shop.serve(call(1), seconds=5.0)
    ((cancelled, node, ticket),) = shop.asked("cancel")
    assert (node, ticket) == shop.asked("propose")[0][1:3]
    assert SECOND < cancelled < 4 * SECOND
    assert (outcome.acknowledged, outcome.unknown) == (0, 1)  # it could not be cancelled


def test_what_was_cancelled_in_time_is_a_refusal() -> None:
    shop = Shop(lambda server, ticket, content: None)
    shop.cancels = True
    outcome = shop.serve(call(1), seconds=60.0)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 0)
    assert outcome.marks["a call was given up in time"] == len(shop.asked("propose")) > 3

    def cheating(server: Server, ticket: int, content: bytes) -> None:
        server.toys.index or server.apply(content)  # type: ignore[attr-defined]

    shop = Shop(cheating)
    shop.cancels = True
    assert shop.serve(call(1), seconds=60.0).rule == "tickets"


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    held: list[tuple[Server, int, bytes]] = []

    def late(server: Server, ticket: int, content: bytes) -> None:
        held.append((server, ticket, content))
        if content.endswith(b"2"):
            for each in held:
                each[0].commit(*each[1:])

    shop = Shop(late)
    outcome = shop.serve(call(1), call(2, 4_000), seconds=5.0)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 1, 1)
    assert [what[1] for what in shop.notes.told if what[0] == "answered"] == [2]


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_registered_once_and_numbers_its_commands() -> None:
    shop = Shop(committing)
    outcome = shop.serve(call(1), call(2, 200), call(3, 300), sessions=True)
    assert len(shop.asked("register")) == 1
    assert [each[4:] for each in shop.asked("propose")] == [(77, 1, 1), (77, 2, 2), (77, 3, 3)]
    assert outcome.acknowledged == 3
    assert [each.input for each in shop.notes.history] == [1, 2, 3]


def test_a_lost_call_of_a_session_is_tried_again_under_its_number() -> None:
    def losing(server: Server, ticket: int, content: bytes) -> None:
        if len(server.toys.asked("propose")) < 3:  # type: ignore[attr-defined]
            server.end(ticket, Outcome.LOST)
        else:
            server.commit(ticket, content)

    shop = Shop(losing)
    outcome = shop.serve(call(1), call(2, 700), sessions=True)
    assert [each[1] for each in shop.asked("propose")] == [1, 2, 1, 1]
    assert [each[4:] for each in shop.asked("propose")] == [(77, 1, 1)] * 3 + [(77, 2, 2)]
    assert len({each[3] for each in shop.asked("propose")[:3]}) == 1
    assert (outcome.acknowledged, outcome.unknown) == (2, 0)
    assert outcome.marks["a retry in a session got its answer"] == 1


def test_a_call_of_a_session_that_is_refused_after_it_was_lost_stays_unknown() -> None:
    def worse(server: Server, ticket: int, content: bytes) -> None:
        first = len(server.toys.asked("propose")) == 1  # type: ignore[attr-defined]
        if first:
            server.apply(content)
        server.end(ticket, Outcome.LOST if first else Outcome.REFUSED)

    shop = Shop(worse)
    outcome = shop.serve(call(1), sessions=True, seconds=30.0)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 1)
    assert [(each.output, each.returned) for each in shop.notes.history] == [(b"done", 100 * MS)]


def test_an_expired_session_ends_its_call_and_the_next_call_has_another_session() -> None:
    def expired(server: Server, ticket: int, content: bytes) -> None:
        if content.endswith(b"1"):
            server.end(ticket, Outcome.REFUSED, Reason.SESSION_EXPIRED)
        else:
            server.commit(ticket, content)

    shop = Shop(expired)
    outcome = shop.serve(call(1), call(2, 500), sessions=True)
    assert len(shop.asked("register")) == 2
    assert [each[3][-1:] for each in shop.asked("propose")] == [b"1", b"2"]
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 1, 0)


def test_a_session_that_cannot_be_registered_ends_the_call_that_wanted_it() -> None:
    shop = Shop(committing)
    shop.registers = lambda server, ticket: server.end(ticket, Outcome.REFUSED)
    outcome = shop.serve(call(1), seconds=20.0, sessions=True)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown, outcome.refused) == ("", 0, 0, 1)
    assert outcome.marks["a session could not be had"] == 1
    assert shop.asked("propose") == []


def test_several_calls_of_a_client_are_under_way_and_all_say_which_is_the_lowest() -> None:
    held: list[tuple[Server, int, bytes]] = []

    def late(server: Server, ticket: int, content: bytes) -> None:
        held.append((server, ticket, content))
        if content.endswith(b"3"):  # the second and the third are answered, the first is not
            for each in held[1:]:
                each[0].commit(*each[1:])

    shop = Shop(late)
    outcome = shop.serve(*(call(number, 100 + number) for number in range(1, 6)), sessions=True, in_flight=3)
    assert [each[4:] for each in shop.asked("propose")[:5]] == [
        (77, 1, 1),
        (77, 2, 1),
        (77, 3, 1),
        (77, 4, 1),
        (77, 5, 1),
    ]
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 2, 3)
    assert outcome.marks["a session had several commands under way"] == 4


def test_a_session_that_is_closed_is_gone_for_what_comes_later_and_not_for_what_is_under_way() -> None:
    shop = Shop(committing)
    closed: list[int] = []

    class Closing(Server):
        def close_session(self, now: float, ticket: int, session: int) -> None:
            closed.append(session)
            self.end(ticket, Outcome.COMMITTED)

    shop.machine = Closing
    outcome = shop.serve(
        call(1), call(0, 200, kind="close"), call(2, 300), call(0, 400, 2, kind="close"), sessions=True
    )
    assert closed == [77]  # the other client has none
    assert len(shop.asked("register")) == 2
    assert (outcome.rule, outcome.acknowledged) == ("", 3)
    assert [each.input for each in shop.notes.history] == [1, 2]
    assert outcome.marks["a session was closed"] == 1


def test_closing_a_session_that_is_gone_is_an_end_like_another() -> None:
    class Gone(Server):
        def close_session(self, now: float, ticket: int, session: int) -> None:
            self.end(ticket, Outcome.REFUSED, Reason.SESSION_EXPIRED)

    shop = Shop(committing)
    shop.machine = Gone
    outcome = shop.serve(call(1), call(0, 200, kind="close"), sessions=True)
    assert (outcome.rule, outcome.acknowledged, outcome.marks["a session was gone before it was closed"]) == ("", 2, 1)


def test_what_is_under_way_in_an_expired_session_keeps_to_it_and_may_be_done() -> None:
    """The first attempt of 1 is lost, and applied in the end; then the session is gone."""
    tried: dict[bytes, int] = {}

    def expired(server: Server, ticket: int, content: bytes) -> None:
        tried[content] = tried.get(content, 0) + 1
        if content.endswith(b"1") and tried[content] == 1:
            server.apply(content)
            server.end(ticket, Outcome.LOST)
        elif content.endswith((b"1", b"2")):
            server.end(ticket, Outcome.REFUSED, Reason.SESSION_EXPIRED)
        else:
            server.commit(ticket, content)

    shop = Shop(expired)
    outcome = shop.serve(call(1), call(2, 110), call(3, 700), sessions=True, in_flight=2)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown, outcome.refused) == ("", 1, 1, 1)
    assert outcome.marks["a client saw that its session had expired"] == 1
    assert len(shop.asked("register")) == 2
    assert {(each.input, each.returned) for each in shop.notes.history} == {(1, 100 * MS), (3, 700 * MS)}


def test_an_answer_that_is_not_what_came_of_the_command_is_found() -> None:
    def lying(server: Server, ticket: int, content: bytes) -> None:
        server.apply(content, b"done")
        server.end(ticket, Outcome.COMMITTED, result=b"other")

    outcome = Shop(lying).serve(call(1))
    assert (outcome.rule, "came to b'done' and was answered b'other'" in outcome.text) == ("tickets", True)


@pytest.mark.parametrize(("result", "rule"), [(b"", ""), (b"done", "tickets")])
def test_a_result_that_is_too_large_is_judged_all_the_same(result: bytes, rule: str) -> None:
    def large(server: Server, ticket: int, content: bytes) -> None:
        server.apply(content, b"a long one")
        server.end(ticket, Outcome.COMMITTED, Reason.RESULT_TOO_LARGE, result)

    shop = Shop(large)
    outcome = shop.serve(call(1))
    assert outcome.rule == rule
    assert rule or [each.output for each in shop.notes.history] == [b"a long one"]


def test_a_call_that_waits_for_its_answer_is_never_one_that_has_it() -> None:
    outcome = Shop(ending(Outcome.REFUSED, Reason.ANSWERED)).serve(call(1), sessions=True)
    assert (outcome.rule, "still waits" in outcome.text) == ("tickets", True)


# -- reads, nodes that are gone, transfers ----------------------------------------------------------------------------


def test_a_read_sees_what_the_workload_says() -> None:
    shop = Shop(committing)
    outcome = shop.serve(call(5, kind="read"), sessions=True)
    assert shop.notes.told == [("called", 5), ("answered", 5, "token 5", "state for 5")]
    assert outcome.acknowledged == 1
    assert shop.asked("register") == []


@pytest.mark.parametrize("how", [Outcome.LOST, Outcome.REFUSED])
def test_a_read_is_tried_until_it_is_served_and_is_never_unknown(how: Outcome) -> None:
    shop = Shop(committing)
    served = shop.reads
    shop.reads = lambda server, ticket: served(server, ticket) if ticket > 3 else server.end(ticket, how)
    outcome = shop.serve(call(5, kind="read"))
    assert [node for _, node, _ in shop.asked("read")] == [1, 2, 1, 2]
    assert (outcome.acknowledged, outcome.unknown) == (1, 0)
    shop.reads = lambda server, ticket: server.end(ticket, how)
    outcome = shop.serve(call(5, kind="read"), seconds=20.0)
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 0)
    assert shop.notes.history == []


def test_a_call_goes_to_another_node_while_its_own_is_down() -> None:
    shop = Shop(committing)
    outcome = shop.serve(call(1, 300), faults=(fault("crash", 200, 1, 0.6, "kill"),))
    assert [node for _, node, *_ in shop.asked("propose")] == [2]
    assert outcome.acknowledged == 1


def test_a_call_that_a_process_took_with_it_is_lost() -> None:
    shop = Shop(lambda server, ticket, content: None)
    outcome = shop.serve(call(1), faults=(fault("crash", 200, 1, 0.1),))
    assert (outcome.acknowledged, outcome.unknown) == (0, 1)
    assert shop.asked("cancel") == []


def test_a_call_at_a_paused_node_waits_and_a_client_that_does_not_is_unsure() -> None:
    shop = Shop(committing)
    outcome = shop.serve(call(1, 300), seconds=6.0, faults=(fault("pause", 200, 1, 5.0),))
    assert (outcome.rule, outcome.acknowledged, outcome.unknown) == ("", 0, 1)
    assert [what for what, *_ in shop.notes.told] == ["called", "applied"]


def test_a_transfer_is_asked_of_the_leader() -> None:
    asked: list[tuple[int, int]] = []

    class Leader(Server):
        def transfer(self, now: float, ticket: int, target: int) -> None:
            asked.append((self.node, target))
            self.end(ticket, Outcome.COMMITTED)

    shop = Shop(committing)
    shop.machine = Leader
    shop.leader = 2
    outcome = shop.serve(call(1, kind="transfer"), call(2, 300))
    assert asked == [(2, 1)]
    assert outcome.acknowledged == 1
    assert outcome.marks["leadership was transferred"] == 1


# -- tickets end once -------------------------------------------------------------------------------------------------


def test_a_ticket_that_ends_twice_is_found() -> None:
    def twice(server: Server, ticket: int, content: bytes) -> None:
        server.commit(ticket, content)
        server.end(ticket, Outcome.LOST)

    outcome = Shop(twice).serve(call(1))
    assert outcome.rule == "tickets"
    assert "ended twice" in outcome.text


def test_a_ticket_that_ends_after_it_was_cancelled_is_found() -> None:
    held: list[tuple[Server, int]] = []

    def late(server: Server, ticket: int, content: bytes) -> None:
        if content.endswith(b"2"):
            held[0][0].end(held[0][1], Outcome.LOST)
        held.append((server, ticket))

    shop = Shop(late)
    shop.cancels = True
    outcome = shop.serve(call(1), call(2, 4_000, client=2), seconds=5.0)
    assert outcome.rule == "tickets"
    assert "ended twice" in outcome.text
