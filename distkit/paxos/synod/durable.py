"""Between memory and disk: what a flush writes, and restart from any durable state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distkit.core import LocalError, StorageError, Write
from distkit.paxos.synod.configuration import SynodConfiguration
from distkit.paxos.synod.messages import Decided, Formed, Promised, Voted
from distkit.paxos.synod.state import NO_VOTE, Durable, State


def formation_records(configuration: SynodConfiguration) -> tuple[Formed]:
    """The first durable records of a member."""
    configuration.check()
    return (Formed(configuration.epoch),)


def fold(records: Iterable[Any]) -> Durable:
    """What durable records amount to. Their order does not matter: each kind only rises.

    Raises StorageError without a Formed record, and for records that contradict each other.
    """
    epoch: int | None = None
    promised = 0
    vote = NO_VOTE
    chosen: Decided | None = None
    for record in records:
        kind = type(record)
        if kind is Promised:
            promised = max(promised, record.ballot)
        elif kind is Voted:
            if record.ballot == vote.ballot and record != vote:
                raise StorageError(f"the log holds two votes at ballot {record.ballot}")
            if record.ballot > vote.ballot:
                vote = record
        elif kind is Decided:
            if chosen is not None and (record.origin, record.value) != (chosen.origin, chosen.value):
                raise StorageError("the log holds two decisions")
            chosen = record
        elif kind is Formed:
            if epoch not in (None, record.epoch):
                raise StorageError("the log was formed twice, with other members, roles or quorums")
            epoch = record.epoch
        else:
            raise StorageError(f"the log holds a record of unknown type {kind.__name__}")
    if epoch is None:
        raise StorageError("the log holds no configuration: it was never formed, or its beginning is missing")
    return Durable(epoch, max(promised, vote.ballot), vote, chosen)


def image(s: State) -> tuple[Any, ...]:
    """Records that restore the state as it is accepted now."""
    records: list[Any] = [Formed(s.epoch)]
    if s.vote.ballot:
        records.append(s.vote)
    if s.promised > s.vote.ballot:
        records.append(Promised(s.promised))
    if s.chosen is not None:
        records.append(s.chosen)
    return tuple(records)


def collect_write(s: State) -> Write | None:
    """The write of this flush. It may be torn anywhere: nothing of it is said before all of it is durable."""
    records: list[Any] = []
    if s.vote is not s.vote_written:
        records.append(s.vote)
        s.vote_written = s.vote
    if s.promised != s.promised_written:
        if s.promised != s.vote.ballot:  # else the vote says it
            records.append(Promised(s.promised))
        s.promised_written = s.promised
    if s.chosen is not s.chosen_written:
        records.append(s.chosen)
        s.chosen_written = s.chosen
    if not records and not s.then and not s.then_own:
        return None
    s.token += 1
    write = Write(s.token, tuple(records), tuple(s.then))
    s.outstanding.append((s.token, s.promised, s.then_own))
    s.then = []
    s.then_own = []
    return write


def persisted(s: State, token: int) -> None:
    """All writes up to `token` are durable: this node may tell itself what waited for them."""
    if token > s.token:
        raise LocalError(f"write {token} was never issued; the newest is {s.token}")
    while s.outstanding and s.outstanding[0][0] <= token:
        _, s.promised_durable, own = s.outstanding.popleft()
        if own:
            s.own.extend(own)
            s.touched = True
