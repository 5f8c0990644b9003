"""News that still have to be passed on: at most one claim about each member, those told least often first."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter

from distkit.membership.swim.messages import Claim, claim_bytes


class News:
    """A claim, its bytes in a message, and how often it was told."""

    __slots__ = ("claim", "size", "told")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.size = claim_bytes(claim)
        self.told = 0


class Broadcasts:
    """The queue of a node."""

    __slots__ = ("_all", "_bytes", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, News] = {}  #: by the name of the member
        self._bytes = 0  #: of all of them
        self._all: tuple[Claim, ...] | None = None  #: all of them, if they have not changed since the last time

    def put(self, claim: Claim) -> None:
        """Pass on a claim, instead of an older one about the same member."""
        name = claim.name
        if name in self.waiting:
            self.drop(name)
        self.waiting[name] = news = News(claim)
        self._bytes += news.size
        self._all = None

    def drop(self, name: str) -> None:
        """Stop telling about a member."""
        news = self.waiting.pop(name, None)
        if news is not None:
            self._bytes -= news.size
            self._all = None

    def take(self, room: int, limit: int) -> tuple[Claim, ...]:
        """Claims of at most `room` bytes in all; each is told `limit` times and then forgotten."""
        told: Collection[News]
        if self._bytes <= room:
            if self._all is None:
                self._all = tuple([news.claim for news in self.waiting.values()])
            told, claims = self.waiting.values(), self._all
        else:
            told = self._first(room)
            claims = tuple([news.claim for news in told])
        worn: list[str] = []
        for news in told:
            news.told += 1
            if news.told >= limit:
                worn.append(news.claim.name)
        for name in worn:
            self.drop(name)
        return claims

    def _first(self, room: int) -> list[News]:
        """Those told least often, and of these the oldest, as far as they fit."""
        found = []
        for news in sorted(self.waiting.values(), key=attrgetter("told")):
            if news.size <= room:
                room -= news.size
                found.append(news)
        return found
