"""One client's requests and answers: their order, what is under way together, transactions, and every way to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from kv_store import KeyValueStore
from redis_connection import Server
from redis_session import ANSWERS_BYTES, PIPELINE_MAX, QUEUED_MAX, RedisSession

from distkit.core import Outcome, Reason
from distkit.core.limits import ENTRY_BYTES_MAX
from distkit.replica import ReplicaReply

NOW_US = 1_700_000_000_000_000
Done = Callable[[ReplicaReply], None]


class Store:
    """A replicated store whose replies come when the test says so, in the order of the questions."""

    def __init__(self, password: bytes = b"") -> None:
        self.server = Server("7.0.15", password)
        self.machine = KeyValueStore()
        self.under_way: list[tuple[bytes | None, Done]] = []  # an entry, or None for a read
        self.index = 0

    def propose(self, entry: bytes, done: Done) -> None:
        self.under_way.append((entry, done))

    def read(self, done: Done) -> None:
        self.under_way.append((None, done))

    def query(self, arguments: Sequence[bytes], protocol: int) -> bytes:
        return self.machine.query(arguments, NOW_US, protocol)

    @property
    def kinds(self) -> str:
        """What is under way: w for each write, r for each read."""
        return "".join("r" if entry is None else "w" for entry, _done in self.under_way)

    def step(self) -> None:
        """Carry out the oldest that is under way."""
        entry, done = self.under_way.pop(0)
        if entry is None:
            done(ReplicaReply(1, Outcome.READABLE, index=self.index))
        else:
            self.index += 1
            result = self.machine.apply(self.index, 1, NOW_US, entry)
            done(ReplicaReply(1, Outcome.COMMITTED, index=self.index, result=result))

    def run(self) -> None:
        """Carry out everything, and what follows from it."""
        while self.under_way:
            self.step()

    def fail(self, outcome: Outcome, reason: Reason) -> None:
        """End the oldest in another way."""
        _entry, done = self.under_way.pop(0)
        done(ReplicaReply(1, outcome, reason=reason))


class Connection:
    """What a session does to its connection."""

    peer = "127.0.0.1:50000"

    def __init__(self) -> None:
        self.sent = b""
        self.pieces: list[int] = []
        self.crowded_bytes = 1 << 30
        self.paused = self.closed = False

    @property
    def crowded(self) -> bool:
        return len(self.sent) > self.crowded_bytes

    def send(self, data: bytes) -> None:
        assert not self.closed
        self.sent += data
        self.pieces.append(len(data))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        """What was sent since the last time."""
        sent, self.sent = self.sent, b""
        return sent


class Client:
    """A session between a store and a connection that the test holds."""

    def __init__(self, password: bytes = b"") -> None:
        self.store = Store(password)
        self.connection = Connection()
        self.session = RedisSession(self.connection, self.store, 7)  # type: ignore[arg-type]

    def say(self, *lines: str) -> None:
        """Send inline commands in one packet."""
        self.session.received("".join(f"{line}\r\n" for line in lines).encode())

    def ask(self, *lines: str) -> bytes:
        """... and return the answers once the store has done everything."""
        self.say(*lines)
        self.store.run()
        return self.connection.take()


# -- order ------------------------------------------------------------------------------------------------------------


def test_answers_leave_in_the_order_of_the_questions_whenever_they_are_ready() -> None:
    client = Client()
    client.say("SET x 1", "PING", "SET y 2", "ECHO end")
    assert client.store.kinds == "ww"
    assert client.connection.take() == b""  # PING is answered, but it is not its turn
    (_, first), (_, second) = client.store.under_way
    second(ReplicaReply(2, Outcome.COMMITTED, result=b"+second\r\n"))
    assert client.connection.take() == b""
    first(ReplicaReply(1, Outcome.COMMITTED, result=b"+first\r\n"))
    assert client.connection.take() == b"+first\r\n+PONG\r\n+second\r\n$3\r\nend\r\n"


def test_a_read_waits_for_the_writes_before_it() -> None:
    client = Client()
    client.say("SET x 1", "GET x")
    assert client.store.kinds == "w"
    client.store.step()
    assert client.store.kinds == "r"
    client.store.step()
    assert client.connection.take() == b"+OK\r\n$1\r\n1\r\n"


def test_a_read_does_not_see_the_write_behind_it() -> None:
    client = Client()
    client.ask("SET x old")
    client.say("GET x", "SET x new", "GET x")
    assert client.store.kinds == "r"
    client.store.run()
    assert client.connection.take() == b"$3\r\nold\r\n+OK\r\n$3\r\nnew\r\n"


def test_a_read_that_waits_for_room_still_does_not_see_the_write_behind_it() -> None:
    client = Client()
    client.ask("SET x old")
    client.connection.crowded_bytes = -1
    client.say("GET x", "SET x new")
    client.store.step()
    assert client.store.kinds == ""  # the read is not made yet, so the write has to wait
    client.connection.crowded_bytes = 1 << 30
    client.session.drained()
    client.store.run()
    assert client.connection.take() == b"$3\r\nold\r\n+OK\r\n"


def test_runs_of_one_kind_are_under_way_together() -> None:
    client = Client()
    client.say("SET a 1", "SET b 2", "INCR c", "GET a", "GET b", "DEL a")
    assert client.store.kinds == "www"
    for _ in range(3):
        client.store.step()
    assert client.store.kinds == "rr"
    client.store.run()
    assert client.connection.take() == b"+OK\r\n+OK\r\n:1\r\n$1\r\n1\r\n$1\r\n2\r\n:1\r\n"


def test_a_command_may_come_byte_by_byte() -> None:
    client = Client()
    for byte in b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n":
        client.session.received(bytes((byte,)))
    assert client.connection.take() == b"$2\r\nhi\r\n"


def test_an_unknown_command_is_answered_in_its_turn_and_the_rest_goes_on() -> None:
    answer = Client().ask("SET x 1", "NOSUCH thing", "GET x")
    assert answer.startswith(b"+OK\r\n-ERR unknown command 'NOSUCH'")
    assert answer.endswith(b"\r\n$1\r\n1\r\n")


def test_an_answer_is_in_the_protocol_of_the_moment_in_which_it_was_asked() -> None:
    client = Client()
    client.say("GET nothing", "SET nothing 1 XX", "HELLO 3", "GET nothing")
    client.store.run()
    answer = client.connection.take()
    assert answer.startswith(b"$-1\r\n$-1\r\n%7\r\n")
    assert answer.endswith(b"_\r\n")


# -- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_entry() -> None:
    client = Client()
    client.say("MULTI", "SET x 1", "INCR x", "GET x", "EXEC")
    assert client.store.kinds == "w"
    client.store.run()
    assert client.connection.take() == b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n"


def test_a_transaction_counts_as_a_write_for_the_reads_around_it() -> None:
    client = Client()
    client.ask("SET x 0")
    client.say("GET x", "MULTI", "INCR x", "EXEC", "GET x")
    assert client.store.kinds == "r"
    client.store.run()
    assert client.connection.take() == b"$1\r\n0\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n$1\r\n1\r\n"


@pytest.mark.parametrize("wrong", ["NOSUCH", "GET", "PING", "CLIENT ID", "WATCH x"])
def test_a_transaction_with_a_mistake_in_it_is_not_executed(wrong: str) -> None:
    client = Client()
    assert client.ask("MULTI", "SET x 1") == b"+OK\r\n+QUEUED\r\n"
    assert client.ask(wrong).startswith(b"-ERR")
    assert client.ask("SET x 2") == b"+QUEUED\r\n"
    assert client.ask("EXEC") == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert client.ask("GET x") == b"$-1\r\n"
    assert client.ask("MULTI", "SET x 3", "EXEC") == b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"  # the next is not touched


def test_transactions_do_not_nest_and_words_out_of_place_are_refused() -> None:
    client = Client()
    assert client.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert client.ask("DISCARD") == b"-ERR DISCARD without MULTI\r\n"
    assert client.ask("MULTI x").startswith(b"-ERR wrong number of arguments for 'multi'")
    assert client.ask("MULTI", "MULTI") == b"+OK\r\n-ERR MULTI calls can not be nested\r\n"
    assert client.ask("SET x 1", "DISCARD", "GET x") == b"+QUEUED\r\n+OK\r\n$-1\r\n"
    assert client.ask("MULTI", "EXEC") == b"+OK\r\n*0\r\n"


def test_watch_is_refused_rather_than_ignored() -> None:
    client = Client()
    assert client.ask("WATCH x").startswith(b"-ERR WATCH is not supported")
    assert client.ask("UNWATCH") == b"+OK\r\n"
    assert client.ask("MULTI", "SET x 1", "EXEC").endswith(b"*1\r\n+OK\r\n")


def test_a_transaction_is_bounded_in_commands_and_in_bytes() -> None:
    client = Client()
    client.ask("MULTI")
    answer = client.ask(*["INCR x"] * (QUEUED_MAX + 1))
    assert answer[: 9 * QUEUED_MAX] == b"+QUEUED\r\n" * QUEUED_MAX
    assert answer[9 * QUEUED_MAX :].startswith(b"-ERR a transaction is one entry of the log")
    assert client.ask("EXEC").startswith(b"-EXECABORT")
    client.ask("MULTI")
    large = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$900000\r\n" + bytes(900_000) + b"\r\n"
    for _ in range(ENTRY_BYTES_MAX // 900_000):
        client.session.received(large)
    assert b"-" not in client.connection.take()
    client.session.received(large)
    assert client.connection.take().startswith(b"-ERR a transaction is one entry of the log")
    assert client.ask("EXEC").startswith(b"-EXECABORT")


def test_a_command_that_is_larger_than_an_entry_is_refused_before_it_is_proposed() -> None:
    client = Client()
    arguments = [b"MSET", *(bytes(1_000_000) for _ in range(4)), *(b"" for _ in range(60_000))]
    assert sum(map(len, arguments)) <= 4 << 20  # the protocol allows it
    packet = b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in arguments)
    client.session.received(packet)
    client.say("PING")
    assert client.store.kinds == ""
    assert client.connection.take().startswith(b"-ERR this command is larger than an entry")
    assert not client.session.busy


# -- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "reason", "code"),
    [
        *((Outcome.REFUSED, reason, b"-DISKFULL " if reason is Reason.FULL else b"-TRYAGAIN ") for reason in Reason),
        (Outcome.SUPERSEDED, Reason.NONE, b"-TRYAGAIN "),
        *((Outcome.LOST, reason, b"-UNKNOWN ") for reason in Reason),
        *((Outcome.COMMITTED, reason, b"-ERR applied, ") for reason in Reason if reason is not Reason.NONE),
    ],
)
@pytest.mark.parametrize("lines", [["SET x 1"], ["MULTI", "INCR x", "EXEC"]])
def test_a_write_that_did_not_end_well_is_an_error_and_never_ok(
    lines: list[str], outcome: Outcome, reason: Reason, code: bytes
) -> None:
    client = Client()
    client.say(*lines, "PING")
    client.connection.take()
    client.store.fail(outcome, reason)
    answer, rest = client.connection.take().split(b"\r\n", 1)
    assert answer.removeprefix(b"+OK\r\n").startswith(code)
    assert rest == b"+PONG\r\n"
    assert client.ask("SET y 2") == b"+OK\r\n"


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.LOST])
@pytest.mark.parametrize("reason", Reason)
def test_a_read_that_failed_did_nothing_and_says_so(outcome: Outcome, reason: Reason) -> None:
    client = Client()
    client.say("GET x", "SET x 1")
    client.store.fail(outcome, reason)
    answer = client.connection.take()
    assert answer.startswith((b"-TRYAGAIN not done", b"-DISKFULL not done"))
    client.store.run()
    assert client.connection.take() == b"+OK\r\n"


def test_outcomes_that_come_after_the_client_has_gone_are_dropped() -> None:
    client = Client()
    client.say("SET x 1", "GET x")
    client.session.closed()
    client.store.run()
    assert client.connection.sent == b""
    assert client.connection.paused  # nobody touches a connection that is gone
    assert client.store.machine.key_count() == 1  # what was proposed is done all the same


# -- ends -------------------------------------------------------------------------------------------------------------


def test_quit_answers_what_was_asked_before_and_reads_nothing_behind_it() -> None:
    client = Client()
    client.say("SET x 1", "GET x", "QUIT", "SET x 2")
    assert client.connection.paused
    assert not client.connection.closed
    client.store.run()
    assert client.connection.take() == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    assert client.connection.closed
    assert client.connection.paused
    assert client.store.query([b"GET", b"x"], 2) == b"$1\r\n1\r\n"


def test_quit_ends_a_transaction_too() -> None:
    client = Client()
    assert client.ask("MULTI", "SET x 1", "QUIT") == b"+OK\r\n+QUEUED\r\n+OK\r\n"
    assert client.connection.closed


def test_a_protocol_error_is_answered_behind_what_was_asked_before_and_ends_the_connection() -> None:
    client = Client()
    client.say("SET x 1", "*1", "$x", "SET x 2")
    assert not client.connection.closed
    client.store.run()
    assert client.connection.take() == b"+OK\r\n-ERR Protocol error: invalid bulk length\r\n"
    assert client.connection.closed


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_reading_stops_while_much_is_unanswered_and_goes_on_at_half() -> None:
    client = Client()
    client.say(*["SET x 1"] * PIPELINE_MAX)
    assert not client.connection.paused
    client.say("SET x 1")
    assert client.connection.paused
    while len(client.store.under_way) > PIPELINE_MAX // 2:
        assert client.connection.paused
        client.store.step()
    assert not client.connection.paused


def test_reading_stops_while_commands_wait_for_others() -> None:
    client = Client()
    client.say("SET x 1", "GET x")
    assert client.connection.paused
    client.store.step()
    assert not client.connection.paused


def test_reads_are_not_made_while_the_client_does_not_take_answers() -> None:
    client = Client()
    client.ask(f"SET large {'v' * 60_000}")
    client.connection.crowded_bytes = 200_000
    client.say(*["GET large"] * 100)
    client.store.run()
    assert 200_000 < len(client.connection.sent) < 200_000 + 2 * ANSWERS_BYTES
    assert client.session.busy
    received = b""
    while client.session.busy:
        received += client.connection.take()
        client.session.drained()
    received += client.connection.take()
    assert received == (b"$60000\r\n" + b"v" * 60_000 + b"\r\n") * 100
    assert max(client.connection.pieces) < 2 * ANSWERS_BYTES


# -- authentication ---------------------------------------------------------------------------------------------------


def test_nothing_is_done_before_the_password_and_all_behind_it() -> None:
    client = Client(password=b"secret")
    assert not client.session.admitted
    answer = client.ask("SET x 1", "PING", "MULTI", "AUTH wrong", "AUTH secret", "SET x 2", "GET x")
    assert answer == (
        b"-NOAUTH Authentication required.\r\n" * 3
        + b"-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n+OK\r\n$1\r\n2\r\n"
    )
    assert client.session.admitted


def test_a_client_that_guesses_passwords_is_closed() -> None:
    client = Client(password=b"secret")
    answer = client.ask(*["AUTH guess"] * 100, "AUTH secret")
    assert answer.count(b"-WRONGPASS") == 5
    assert client.connection.closed
    assert not client.session.admitted


def test_sizes_are_narrow_before_the_password_and_wide_behind_it() -> None:
    large = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$20000\r\n" + bytes(20_000) + b"\r\n"
    stranger = Client(password=b"secret")
    stranger.session.received(large)
    assert stranger.connection.take() == b"-ERR Protocol error: unauthenticated bulk length\r\n"
    assert stranger.connection.closed
    friend = Client(password=b"secret")
    friend.session.received(b"AUTH secret\r\n" + large)
    friend.store.run()
    assert friend.connection.take() == b"+OK\r\n+OK\r\n"
