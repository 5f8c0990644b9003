"""The things of a picture: all that has a place in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

Links = frozenset[tuple[int, int]]

#: Marks of these names, and those of a change of role, are in the picture for completeness: small ones.
_SMALL: Final = ("durable", "Apply", "Become")
_FATES: Final = {
    "committed": "done",
    "readable": "done",
    "ok": "done",
    "refused": "refused",
    "superseded": "refused",
    "fail": "refused",
}


class Thing:
    """What has a place in a picture."""

    __slots__ = ()

    @property
    def times(self) -> list[float]:
        """The moments at which something happens to it, in order."""
        raise NotImplementedError

    @property
    def dull(self) -> bool:
        """A stretch of time in which nothing but this happens may be cut short."""
        return False

    def during(self, end: float) -> tuple[float, float]:
        """From when to when it is drawn, if the picture ends at `end`."""
        times = self.times
        return times[0], times[-1]


@dataclass(slots=True)
class Instant(Thing):
    """At one moment, on one node (0: on none)."""

    node: int
    time: float

    @property
    def times(self) -> list[float]:
        return [self.time]


@dataclass(slots=True)
class Stretch(Thing):
    """For a while."""

    begin: float
    end: float

    @property
    def times(self) -> list[float]:
        return [self.begin, self.end]


@dataclass(slots=True)
class Span(Stretch):
    """A node is in one state: "leader", "candidate", "follower", "down" or "paused", or what its machine says."""

    node: int
    state: str
    term: int


@dataclass(slots=True)
class Cut(Stretch):
    """These links, and no others, are cut."""

    links: Links


@dataclass(slots=True)
class Commit(Instant):
    """The node learns that the entries first .. last are committed."""

    first: int
    last: int


@dataclass(slots=True)
class Mark(Instant):
    """Anything else."""

    name: str
    text: str

    @property
    def small(self) -> bool:
        return self.name.startswith(_SMALL)

    @property
    def dull(self) -> bool:
        return self.name in _SMALL


@dataclass(slots=True)
class Message(Thing):
    """`sent` is None if the trace does not know when (it began later). It may arrive more than once, or never."""

    id: int
    name: str
    source: int
    target: int
    sent: float | None
    term: int
    detail: str
    arrivals: list[float] = field(default_factory=list)
    lost: float | None = None
    reason: str = ""

    @property
    def kind(self) -> str:
        """How it is coloured."""
        if "Heartbeat" in self.name:
            return "heartbeat"
        if "Vote" in self.name or self.name in ("Prepare", "Promise"):
            return "vote"
        if self.name.endswith("Reply") or self.name == "Accepted":
            return "reply"
        return "append" if self.name in ("AppendEntries", "InstallSnapshot", "Accept") else "other"

    @property
    def times(self) -> list[float]:
        return [time for time in (self.sent, *self.arrivals, self.lost) if time is not None]

    @property
    def dull(self) -> bool:
        return self.kind == "heartbeat"


@dataclass(slots=True)
class Operation(Thing):
    """One operation of a client. `called` is None if the trace began later, `returned` None if it got no answer."""

    client: str
    node: int
    text: str
    called: float | None
    returned: float | None = None
    outcome: str = ""
    value: str = ""

    @property
    def times(self) -> list[float]:
        return [time for time in (self.called, self.returned) if time is not None]

    @property
    def fate(self) -> str:
        """How it is coloured."""
        return "open" if self.returned is None else _FATES.get(self.outcome, "unknown")

    def during(self, end: float) -> tuple[float, float]:
        returned = end if self.returned is None else self.returned
        return returned if self.called is None else self.called, returned
