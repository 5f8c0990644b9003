"""Stable cuts: many reports about who is down (or up) in, one proposal of changes out, the same one nearly everywhere.

Every member is watched by K observers, its successors on K rings. A subject of which L observers have reported is in
flux; one of which H have is sure. Nothing is proposed while anybody is in flux, so that all who go down together are
proposed together. What is proposed has to be agreed upon (by Raft or Paxos); then the view changes and all begins anew.

Source: Suresh et al., "Stable and consistent membership at scale with Rapid" (2018), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from distkit.core import LocalError, record


@record
class CutOptions:
    """`observers` (K) watch each member; a subject with `low` (L) reports is in flux, with `high` (H) it is sure."""

    observers: int = 10
    high: int = 9
    low: int = 4

    def __post_init__(self) -> None:
        k, h, low = self.observers, self.high, self.low
        if not (3 <= k <= 64 and k >= h >= low > 0):
            raise LocalError(f"need 3 <= observers <= 64 and observers >= high >= low > 0, not {k}, {h}, {low}")


class CutDetector:
    """Counts the reports of one view. `subjects_max` bounds how many members may be reported on."""

    def __init__(self, options: CutOptions | None = None, subjects_max: int = 65536) -> None:
        self.options = options or CutOptions()
        self._subjects_max = subjects_max
        self._rings: dict[str, int] = {}  #: by subject: the rings on which it was reported, as bits
        self._flux: dict[str, None] = {}
        self._sure: dict[str, None] = {}

    def report(self, subject: str, ring: int) -> tuple[str, ...]:
        """An observer reports on the ring on which it watches the subject. The proposal, if there is one now.

        A second report on one ring counts for nothing. LocalError: there is no such ring, or there are too many
        subjects.
        """
        options = self.options
        if not 0 <= ring < options.observers:
            raise LocalError(f"rings are numbered from 0 to {options.observers - 1}, not {ring!r}")
        rings = self._rings.get(subject, 0)
        if rings >> ring & 1:
            return ()
        if not rings and len(self._rings) >= self._subjects_max:
            raise LocalError(f"reports on more than {self._subjects_max} subjects")
        self._rings[subject] = rings = rings | 1 << ring
        count = rings.bit_count()
        if count == options.low:
            self._flux[subject] = None
        if count == options.high:
            del self._flux[subject]
            self._sure[subject] = None
            if not self._flux:
                proposal = tuple(self._sure)
                self._sure.clear()
                return proposal
        return ()

    def infer(self, observers: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
        """Let observers that are in flux or sure themselves count as reports; the proposal, if there is one now.

        `observers(subject)` are those on ring 0, 1 ...: they may be unable to report. To be called after reports that
        said that somebody is down; without it, members that watch each other and fail together stay in flux for ever.
        """
        proposed: list[str] = []
        for subject in tuple(self._flux):
            for ring, observer in enumerate(observers(subject)):
                if observer in self._flux or observer in self._sure or observer in proposed:
                    proposed += self.report(subject, ring)
        return tuple(proposed)

    @property
    def in_flux(self) -> tuple[str, ...]:
        """Those with at least L and less than H reports: as long as there is one, nothing is proposed."""
        return tuple(self._flux)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Those with H reports that wait until nobody is in flux."""
        return tuple(self._sure)

    def clear(self) -> None:
        """The view has changed."""
        self._rings.clear()
        self._flux.clear()
        self._sure.clear()


class Rings:
    """Who watches whom in one view: K orders of the members that are the same pure function on all of them."""

    def __init__(self, members: Iterable[str], count: int = CutOptions().observers) -> None:
        names = sorted(set(members))
        if not names or count < 1:
            raise LocalError("rings need at least one member and one ring")
        self._orders = [sorted(names, key=lambda name: _place(ring, name)) for ring in range(count)]
        self._places = [{name: place for place, name in enumerate(order)} for order in self._orders]

    def observers(self, subject: str) -> tuple[str, ...]:
        """Who watches the subject on ring 0, 1 ...; a subject that is no member yet would stand where it will."""
        return tuple(self._neighbour(ring, subject, 1) for ring in range(len(self._orders)))

    def subjects(self, observer: str) -> tuple[str, ...]:
        """Whom a member watches on ring 0, 1 ..."""
        return tuple(self._neighbour(ring, observer, -1) for ring in range(len(self._orders)))

    def _neighbour(self, ring: int, name: str, step: int) -> str:
        order, place = self._orders[ring], self._places[ring].get(name)
        if place is not None:
            return order[(place + step) % len(order)]
        own = _place(ring, name)
        behind = next((number for number, other in enumerate(order) if _place(ring, other) > own), 0)
        return order[behind if step > 0 else behind - 1]


def fast_quorum(n: int) -> int:
    """How many identical proposals of `n` members decide without a leader: n - floor((n - 1) / 4)."""
    if n < 1:
        raise LocalError(f"a group has at least one member, not {n!r}")
    return n - (n - 1) // 4


def _place(ring: int, name: str) -> tuple[bytes, str]:
    return blake2b(name.encode(), digest_size=8, salt=ring.to_bytes(8, "little")).digest(), name
