"""News that still have to be passed on: at most one claim about each member, those told least often first."""

from __future__ import annotations

from distkit.membership.swim.messages import CLAIM_BYTES_MIN, Claim, claim_bytes


class Broadcasts:
    """The queue of a node. Taking costs what is taken, not what is waiting."""

    __slots__ = ("_told", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[Claim, int, int]] = {}  #: by name: (claim, its bytes, how often it was told)
        #: Names by how often their claim was told, each in the order in which they came there. Values mean nothing.
        self._told: list[dict[str, None]] = [{}]

    def put(self, claim: Claim) -> None:
        """Pass on a claim, instead of an older one about the same member."""
        name = claim.name
        self.drop(name)
        self.waiting[name] = (claim, claim_bytes(claim), 0)
        self._told[0][name] = None

    def drop(self, name: str) -> None:
        """Stop telling about a member."""
        old = self.waiting.pop(name, None)
        if old is not None:
            del self._told[old[2]][name]

    def take(self, room: int, limit: int) -> tuple[Claim, ...]:
        """Claims of at most `room` bytes in all; each is told `limit` times and then forgotten."""
        taken: list[tuple[Claim, int, int]] = []
        for names in self._told:
            for name in names:
                claim, size, _ = entry = self.waiting[name]
                if size <= room:
                    room -= size
                    taken.append(entry)
                if room < CLAIM_BYTES_MIN:
                    break
            if room < CLAIM_BYTES_MIN:
                break
        for claim, size, told in taken:
            name = claim.name
            del self._told[told][name]
            told += 1
            if told >= limit:
                del self.waiting[name]
                continue
            if told == len(self._told):
                self._told.append({})
            self._told[told][name] = None
            self.waiting[name] = (claim, size, told)
        return tuple([claim for claim, _, _ in taken])
