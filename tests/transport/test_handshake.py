"""The handshake without I/O: nobody gets through who is not who they say, and each refusal says why."""

import hmac
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.codec import FrameDecoder
from distkit.core import Configuration, Member
from distkit.transport import hello as hello_module
from distkit.transport.hello import (
    HANDSHAKE,
    Greeting,
    Handshake,
    Hello,
    Introduction,
    Purpose,
    Refusal,
    RefusalCode,
    Welcome,
)

KEY = b"k" * 32
CONFIGURATION = Configuration(1, (Member(1, 11, "a:1"), Member(2, 22, "b:1")))
ADDRESSES = ((1, "a:1"), (2, "b:1"))
ONE = Hello(7, 1, 11, 3, CONFIGURATION, ADDRESSES)
TWO = Hello(0, 2, 22, 1, None, ADDRESSES)
NAMES_ONE = frozenset({("DNS", "node-1.distkit")})
NAMES_TWO = frozenset({("URI", "distkit://node/2")})


def anybody(hello: Hello) -> Refusal | None:
    return None


def dialler(local: Hello = ONE, expected: int = 2, **options: Any) -> Handshake:
    settings = {"key": KEY, "names": None, "nonce": b"D" * 32, "judge": anybody} | options
    return Handshake(local, expected=expected, **settings)


def listener(local: Hello = TWO, **options: Any) -> Handshake:
    settings = {"key": KEY, "names": None, "nonce": b"L" * 32, "judge": anybody} | options
    return Handshake(local, expected=None, **settings)


def converse(a: Handshake, b: Handshake, change: Callable[[bytes], bytes] = lambda data: data) -> bytes:
    """Carry bytes between both until nobody has more to say; return what `a` sent. `change` happens on the way to b."""
    said = b""
    while (data := a.take()) or (answer := b.take()):
        if data:
            said += data
            b.receive(change(data)) if ongoing(b) else None
        else:
            a.receive(answer) if ongoing(a) else None
    return said


def ongoing(handshake: Handshake) -> bool:
    return not handshake.done and handshake.refusal is None


def frames(*messages: Any) -> bytes:
    return b"".join(b"".join(HANDSHAKE.encode_frame(message)) for message in messages)


# -- success ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("names", [(NAMES_TWO, NAMES_ONE), (None, None)])
def test_both_ends_know_each_other(key: bytes | None, names: tuple[Any, Any]) -> None:
    a, b = dialler(key=key, names=names[0]), listener(key=key, names=names[1])
    converse(a, b)
    assert a.done
    assert b.done
    assert a.peer == TWO
    assert b.peer == ONE
    assert a.version == b.version == 1


def test_the_listener_takes_the_purpose_of_the_dialler() -> None:
    a, b = dialler(replace(ONE, purpose=Purpose.BULK)), listener()
    converse(a, b)
    assert b.peer == replace(ONE, purpose=Purpose.BULK)
    assert a.peer == replace(TWO, purpose=Purpose.BULK)


def test_bytes_behind_the_handshake_are_kept() -> None:
    a, b = dialler(), listener()
    b.receive(a.take())
    a.receive(b.take())
    b.receive(a.take())
    a.receive(b.take())
    b.receive(a.take() + b"the session begins")
    assert b.done
    assert b.rest == b"the session begins"


def test_split_at_every_byte_and_byte_by_byte() -> None:
    a, b = dialler(), listener()
    said = converse(a, b)
    for at in range(len(said)):
        a, b = dialler(), listener()
        for part in (said[:at], said[at:]):
            b.receive(part)
        assert b.done
    b = listener()
    for at in range(len(said)):
        b.receive(said[at : at + 1])
    assert b.done


def test_nothing_is_known_of_the_other_end_before_its_proof() -> None:
    judged: list[Hello] = []
    a, b = dialler(), listener(judge=lambda hello: judged.append(hello))
    b.receive(a.take())
    assert b.peer is None
    a.receive(b.take())
    proof = a.take()
    b.receive(proof[:-1])
    assert b.peer is None
    assert judged == []
    b.receive(proof[-1:])
    assert b.peer == ONE
    assert judged == [ONE]


def test_the_proofs_are_those_of_the_documentation() -> None:
    """Written from docs/formats.md alone, so that both ends cannot be wrong in the same way."""

    def mac(*parts: bytes) -> bytes:
        return hmac.digest(KEY, b"".join(struct.pack("<I", len(part)) + part for part in parts), "sha256")

    def body(message: Any) -> bytes:
        return b"".join(HANDSHAKE.encode_body(message)[1])

    label = b"distkit peer handshake"
    greetings = [body(Greeting(1, 1, b"D" * 32)), body(Greeting(1, 1, b"L" * 32))]
    first = mac(label, b"dialler", *greetings, body(Introduction(ONE, b"")))
    second = mac(label, b"listener", *greetings, body(Introduction(ONE, b"")), body(Introduction(TWO, b"")))
    b = listener()
    b.receive(frames(Greeting(1, 1, b"D" * 32), Introduction(ONE, first)))
    assert b.take() == frames(Greeting(1, 1, b"L" * 32), Introduction(TWO, second), Welcome())
    assert b.peer == ONE


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "refuser"),
    [((b"x" * 32, KEY), "b"), ((None, KEY), "b"), ((KEY, None), "b"), ((KEY[:-1] + b"x", KEY), "b")],
)
def test_another_key_is_refused_without_detail(keys: tuple[bytes | None, bytes | None], refuser: str) -> None:
    a, b = dialler(key=keys[0]), listener(key=keys[1])
    converse(a, b)
    assert b.refusal == a.refusal == Refusal(RefusalCode.BAD_CREDENTIALS, "credentials refused")
    assert a.refused_by_peer
    assert not b.refused_by_peer
    assert a.peer is None
    assert b.peer is None
    assert b.detail
    assert a.detail == ""


def test_a_replayed_preamble_is_refused() -> None:
    said = converse(dialler(), listener())
    b = listener(nonce=b"N" * 32)
    b.receive(said)
    assert b.refusal is not None
    assert b.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert b.peer is None


def test_a_listener_without_the_key_that_replays_is_refused() -> None:
    a, b = dialler(), listener()
    heard = []
    b.receive(a.take())
    heard.append(b.take())
    a.receive(heard[0])
    b.receive(a.take())
    heard.append(b.take())
    again = dialler(nonce=b"E" * 32)
    again.take()
    for data in heard:
        again.receive(data)
    assert again.refusal is not None
    assert again.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert again.peer is None


def test_a_reflected_challenge_is_refused() -> None:
    """An attacker who answers the dialler with the dialler's own words proves nothing: the role is in the proof."""
    a = dialler()
    for _ in range(3):
        a.receive(a.take())
        if a.refusal is not None:
            break
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert a.peer is None


def test_the_proof_of_a_dialler_is_not_that_of_a_listener() -> None:
    """The attacker lets another dialler of the same node compute the proof: wrong role, wrong order, refused."""
    victim, oracle = dialler(expected=2), dialler(TWO, expected=1, nonce=b"O" * 32)
    oracle_greeting = oracle.take()
    oracle.receive(victim.take())
    victim.receive(oracle_greeting)
    victim.take()
    victim.receive(oracle.take())
    assert victim.refusal is not None
    assert victim.refusal.code == RefusalCode.BAD_CREDENTIALS


@pytest.mark.parametrize("lie", [{"oldest": 2}, {"newest": 2}, {"nonce": b"X" * 32}])
def test_a_changed_greeting_is_refused(lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A downgrade: someone between both narrows the versions that the dialler offered."""
    monkeypatch.setattr(hello_module, "OLDEST", 1)
    monkeypatch.setattr(hello_module, "NEWEST", 3)
    a, b = dialler(), listener()
    greeting = Greeting(1, 3, b"D" * 32)
    converse(a, b, lambda data: frames(replace(greeting, **lie)) if data == frames(greeting) else data)
    assert b.refusal is not None
    assert b.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert not a.done


@pytest.mark.parametrize(
    "lie",
    [
        {"node": 3},
        {"incarnation": 12},
        {"cluster": 8},
        {"boot": 4},
        {"configuration": Configuration(9, ())},
        {"members": ()},
        {"purpose": Purpose.BULK},
    ],
)
def test_a_changed_hello_is_refused_at_either_end(lie: dict[str, Any]) -> None:
    def lying(data: bytes) -> bytes:
        decoder = FrameDecoder(HANDSHAKE)
        decoder.feed(data)
        (_, said), *rest = decoder
        return frames(Introduction(replace(said.hello, **lie), said.mac), *(message for _, message in rest))

    a, b = dialler(), listener()
    b.receive(a.take())
    a.receive(b.take())
    b.receive(lying(a.take()))
    assert b.refusal is not None
    assert b.refusal.code == RefusalCode.BAD_CREDENTIALS
    a, b = dialler(), listener()
    b.receive(a.take())
    a.receive(b.take())
    b.receive(a.take())
    a.receive(lying(b.take()))
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert a.peer is None


@pytest.mark.parametrize(
    "names",
    [
        frozenset(),
        NAMES_TWO,
        frozenset({("DNS", "node-11.distkit"), ("DNS", "*.distkit"), ("DNS", "node-1.distkit.example")}),
        frozenset({("URI", "node-1.distkit"), ("DNS", "distkit://node/1"), ("IP Address", "127.0.0.1")}),
        frozenset({("DNS", "localhost"), ("URI", "distkit://node/12")}),
    ],
)
def test_a_certificate_that_does_not_name_the_claimed_node_is_refused(names: frozenset[tuple[str, str]]) -> None:
    """Also with the right key: node 2's certificate does not let node 1 in."""
    a, b = dialler(names=NAMES_TWO), listener(names=names)
    converse(a, b)
    assert b.refusal == a.refusal == Refusal(RefusalCode.BAD_CREDENTIALS, "credentials refused")
    assert "node 1" in b.detail
    assert b.peer is None
    a, b = dialler(TWO, expected=1, names=names), listener(ONE, names=NAMES_TWO)
    converse(a, b)
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.BAD_CREDENTIALS
    assert a.peer is None


# -- identity ---------------------------------------------------------------------------------------------------------


def test_another_node_than_the_dialled_one_is_refused() -> None:
    a, b = dialler(expected=3), listener()
    converse(a, b)
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.WRONG_NODE
    assert "node 3 was dialled, node 2 answered" in a.refusal.text
    assert b.refusal == a.refusal
    assert b.refused_by_peer


def test_two_nodes_with_one_id_refuse_each_other() -> None:
    a, b = dialler(ONE, expected=1), listener(replace(ONE, incarnation=99))
    converse(a, b)
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.WRONG_NODE
    assert not b.done


@pytest.mark.parametrize("code", [RefusalCode.WRONG_CLUSTER, RefusalCode.WIPED_MEMBER])
@pytest.mark.parametrize("judge_is_dialler", [True, False])
def test_the_judgement_of_the_host_is_said_to_the_other_end(code: RefusalCode, judge_is_dialler: bool) -> None:
    refusal = Refusal(code, "replace the member: ...")
    a = dialler(judge=(lambda hello: refusal) if judge_is_dialler else anybody)
    b = listener(judge=anybody if judge_is_dialler else (lambda hello: refusal))
    converse(a, b)
    assert a.refusal == b.refusal == refusal
    assert a.refused_by_peer is not judge_is_dialler
    assert b.refused_by_peer is judge_is_dialler
    assert a.peer == TWO, "a refused node still learns, authenticated, whom it talks to"
    assert b.peer == ONE
    assert not a.done
    assert not b.done


@pytest.mark.parametrize(("oldest", "newest"), [(2, 9), (0, 0)])
def test_no_version_in_common(oldest: int, newest: int) -> None:
    b = listener()
    b.receive(frames(Greeting(oldest, newest, b"D" * 32)))
    assert b.refusal is not None
    assert b.refusal.code == RefusalCode.VERSION
    a = dialler()
    a.take()
    a.receive(frames(Greeting(oldest, newest, b"L" * 32)))
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.VERSION
    assert "upgrade" in a.refusal.text


def test_the_newest_common_version_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hello_module, "NEWEST", 3)
    b = listener()
    b.receive(frames(Greeting(1, 2, b"D" * 32)))
    assert b.version == 2
    assert b.refusal is None


# -- nonsense ---------------------------------------------------------------------------------------------------------


def introduction(**changes: Any) -> Introduction:
    return Introduction(replace(ONE, **changes), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20),
        bytes(64),
        frames(Welcome()),
        frames(introduction()),
        frames(Greeting(1, 1, b"D" * 31)),
        frames(Greeting(1, 1, b"D" * 33)),
        frames(Greeting(2, 1, b"D" * 32)),
        frames(Greeting(1, 1, b"D" * 32), Greeting(1, 1, b"D" * 32)),
        frames(Greeting(1, 1, b"D" * 32), Welcome()),
        frames(Greeting(1, 1, b"D" * 32), introduction(node=0)),
        frames(Greeting(1, 1, b"D" * 32), introduction(node=1 << 31)),
        frames(Greeting(1, 1, b"D" * 32), introduction(purpose=9)),
        frames(Greeting(1, 1, bytes((64 << 10) + 1))),
    ],
    ids=range(14),
)
def test_nonsense_is_refused(data: bytes) -> None:
    b = listener(key=None)
    b.receive(data)
    assert b.refusal is not None
    assert b.refusal.code == RefusalCode.NONSENSE
    assert b.peer is None


@given(data=st.binary(max_size=200))
def test_noise_never_raises_and_never_authenticates(data: bytes) -> None:
    for handshake in (dialler(), listener()):
        handshake.receive(data)
        assert handshake.peer is None
        assert not handshake.done


def test_every_truncation_leaves_the_listener_waiting_and_every_flip_refuses() -> None:
    said = converse(dialler(), listener())
    for end in range(len(said)):
        b = listener()
        b.receive(said[:end])
        assert not b.done
        assert b.refusal is None
    for at in range(len(said)):
        b = listener()
        b.receive(said[:at] + bytes([said[at] ^ 1]) + said[at + 1 :])
        assert not b.done


def test_a_listener_that_changes_the_purpose_is_refused() -> None:
    a, b = dialler(key=None), listener(key=None)
    b.receive(a.take())
    a.receive(b.take())
    a.receive(frames(Introduction(replace(TWO, purpose=Purpose.BULK), b"")))
    assert a.refusal is not None
    assert a.refusal.code == RefusalCode.NONSENSE


def test_a_refusal_of_the_other_end_is_cut_and_unknown_codes_are_other() -> None:
    a = dialler()
    a.receive(frames(Refusal(200, "x" * 10_000)))
    assert a.refusal == Refusal(RefusalCode.OTHER, "x" * 500)
    assert a.refused_by_peer
    assert a.take() == frames(Greeting(1, 1, b"D" * 32)), "a refusal is not answered"
