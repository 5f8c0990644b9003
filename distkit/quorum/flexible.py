"""Quorum systems as values: which sets of members are enough for phase 1 of Paxos, and which for phase 2.

Paxos needs only that every phase-1 quorum meets every phase-2 quorum (Howard, Malkhi and Spiegelman, "Flexible Paxos").
Two phase-1 quorums, or two phase-2 quorums, need not meet. So the quorums of the common case, phase 2, may be small.

One kind of expression says which sets are enough, a `Threshold`: the weights of those of its parts that agree add up
to what it needs. A part is a member or another threshold, so counts, weights, grids, zones and any boolean expression
without negation are thresholds of thresholds:

    QuorumSystem(at_least(4, 1, 2, 3, 4, 5), at_least(2, 1, 2, 3, 4, 5))      counts, also counts((1, 2, 3, 4, 5), 4, 2)
    QuorumSystem(any_of(all_of(1, 2), 3), dual(any_of(all_of(1, 2), 3)))      an expression and all that meets it

A system is compiled to two tables of one bit for each set of members, so `phase1(mask)` is one look-up, whatever the
expression; that they intersect is checked for all sets when the system is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from distkit.core.errors import LocalError
from distkit.core.limits import NODE_ID_MAX
from distkit.core.records import record

#: Members of a quorum system: a table has a bit for each set of them, 8 KiB with this many.
SYSTEM_MEMBERS_MAX = 16
#: The weights of one threshold add up to at most this, which bounds the work of compiling it.
WEIGHT_TOTAL_MAX = 1000
#: Quorums that `describe` draws for each phase before it only counts.
DRAWN_MAX = 12


class QuorumError(LocalError):
    """This is no quorum system: an expression makes no sense, or two quorums share no member."""


@record
class Threshold:
    """Agrees when the weights of the `parts` that agree add up to `need`. Parts are (weight, member or threshold)."""

    need: int
    parts: tuple[tuple[int, int | Threshold], ...]

    def __str__(self) -> str:
        total = sum(weight for weight, _ in self.parts)
        texts = [str(part) if weight == 1 else f"{weight}*{part}" for weight, part in self.parts]
        number = "any" if self.need == 1 else "all" if self.need == total else str(self.need)
        return f"{number} of ({', '.join(texts)})"


def at_least(need: int, *parts: int | Threshold) -> Threshold:
    """`need` of the parts."""
    return Threshold(need, tuple((1, part) for part in parts))


def all_of(*parts: int | Threshold) -> Threshold:
    """Every part: a boolean AND."""
    return at_least(len(parts), *parts)


def any_of(*parts: int | Threshold) -> Threshold:
    """One part or more: a boolean OR."""
    return at_least(1, *parts)


def weighted(need: int, weights: Mapping[int, int]) -> Threshold:
    """Members whose weights (member -> weight) add up to `need`."""
    return Threshold(need, tuple((weight, member) for member, weight in weights.items()))


def dual(expression: int | Threshold) -> Threshold:
    """What meets every quorum of `expression`, and nothing less: the weakest choice for the other phase.

    A set meets all quorums if the others alone hold none: they must be left with less than `need`.
    """
    if not isinstance(expression, Threshold):
        return any_of(expression)
    total = sum(weight for weight, _ in expression.parts)
    parts = tuple((w, dual(part) if isinstance(part, Threshold) else part) for w, part in expression.parts)
    return Threshold(total - expression.need + 1, parts)


@record
class QuorumSystem:
    """The quorums of both phases. Equal to another one if the same sets are quorums, however they were written.

    Sets are bit masks: bit i stands for `members[i]`, and `members` is sorted. QuorumError unless every phase-1 quorum
    meets every phase-2 quorum; its text names two that do not.
    """

    phase1_expression: Threshold = field(compare=False)
    phase2_expression: Threshold = field(compare=False)
    members: tuple[int, ...] = field(init=False)
    tables: tuple[bytes, bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expressions = (self.phase1_expression, self.phase2_expression)
        members = tuple(sorted({member for each in expressions for member in _mentioned(each)}))
        if len(members) > SYSTEM_MEMBERS_MAX:
            raise QuorumError(f"{len(members)} members are more than {SYSTEM_MEMBERS_MAX}")
        sets = 1 << len(members)
        one, two = (_truths(each, _projections(members)) for each in expressions)
        _check_intersection(members, one, two)
        # Assigned past the record's freezing: these two follow from the expressions.
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "tables", tuple(truths.to_bytes((sets + 7) // 8, "little") for truths in (one, two)))

    def mask(self, nodes: Sequence[int]) -> int:
        """The set of these members as bits. LocalError for a node that is no member."""
        mask = 0
        for node in nodes:
            if node not in self.members:
                raise LocalError(f"node {node} is not one of the members {list(self.members)}")
            mask |= 1 << self.members.index(node)
        return mask

    def phase1(self, mask: int) -> bool:
        """Whether the members in `mask` are enough for phase 1."""
        return bool(self.tables[0][mask >> 3] >> (mask & 7) & 1)

    def phase2(self, mask: int) -> bool:
        """Whether the members in `mask` are enough for phase 2."""
        return bool(self.tables[1][mask >> 3] >> (mask & 7) & 1)

    def minimal(self, phase: int) -> Iterator[tuple[int, ...]]:
        """The quorums of phase 1 or 2 that would be none without any of their members, the smallest first."""
        enough = self.phase1 if phase == 1 else self.phase2
        for mask in sorted(range(1 << len(self.members)), key=lambda mask: (mask.bit_count(), mask)):
            if enough(mask) and not any(enough(mask & ~bit) for bit in _bits(mask)):
                yield _names(self.members, mask)

    def survives(self, phase: int) -> int:
        """How many members may fail, whichever they are, with a quorum of the phase left."""
        enough = self.phase1 if phase == 1 else self.phase2
        everybody = (1 << len(self.members)) - 1
        fatal = (lost.bit_count() for lost in range(everybody + 1) if not enough(everybody ^ lost))
        return min(fatal) - 1

    def describe(self) -> str:
        """Draw the smallest quorums of each phase, one a line, and say how many failures each phase survives.

        members  1 2 3
        phase 1  . . x   any of (all of (1, 2), 3)
                 x x .
                 survives any 1 failure
        phase 2  x . x   all of (any of (1, 2), 3)
                 . x x
                 survives any 0 failures
        """
        widths = [len(str(member)) for member in self.members]
        lines = ["members  " + " ".join(map(str, self.members))]
        for phase, expression in ((1, self.phase1_expression), (2, self.phase2_expression)):
            quorums = list(self.minimal(phase))
            rows = []
            for quorum in quorums[:DRAWN_MAX]:
                marks = ["x" if member in quorum else "." for member in self.members]
                row = " ".join(f"{mark:>{width}}" for mark, width in zip(marks, widths, strict=True))
                rows.append(f"         {row}")
            rows[0] = f"phase {phase}{rows[0][7:]}   {expression}"
            if len(quorums) > DRAWN_MAX:
                rows.append(f"         and {len(quorums) - DRAWN_MAX} more")
            failures = self.survives(phase)
            lines += [*rows, f"         survives any {failures} failure{'' if failures == 1 else 's'}"]
        return "\n".join(lines)


def counts(members: Sequence[int], phase1: int, phase2: int) -> QuorumSystem:
    """Any `phase1` and any `phase2` of the members; they must add up to more than there are."""
    return QuorumSystem(at_least(phase1, *members), at_least(phase2, *members))


def majority(members: Sequence[int]) -> QuorumSystem:
    """More than half of the members, in both phases."""
    return counts(members, len(members) // 2 + 1, len(members) // 2 + 1)


def weights(of: Mapping[int, int], phase1: int, phase2: int) -> QuorumSystem:
    """Members whose weights (member -> weight) add up to `phase1`, or to `phase2`."""
    return QuorumSystem(weighted(phase1, of), weighted(phase2, of))


def grid(rows: Sequence[Sequence[int]]) -> QuorumSystem:
    """Members in a rectangle: phase 1 needs one whole row, phase 2 one whole column."""
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise QuorumError("a grid needs rows that are all equally long")
    columns = list(zip(*rows, strict=True))
    return QuorumSystem(any_of(*(all_of(*row) for row in rows)), any_of(*(all_of(*column) for column in columns)))


# -- compiling: a set of sets is an integer whose bit m says whether the set with mask m belongs to it ----------------


def _mentioned(expression: Threshold) -> Iterator[int]:
    """The members in an expression, after checking that it makes sense."""
    parts = [part for _, part in expression.parts]
    if len(set(parts)) != len(parts):
        raise QuorumError(f"a part stands twice in {expression}: give it a weight")
    total = sum(weight for weight, _ in expression.parts)
    if any(weight < 1 for weight, _ in expression.parts) or total > WEIGHT_TOTAL_MAX:
        raise QuorumError(f"weights must be at least 1 and add up to at most {WEIGHT_TOTAL_MAX}: {expression}")
    if not 1 <= expression.need <= total:
        raise QuorumError(f"{expression.need} is needed where 1 to {total} can agree: {expression}")
    for part in parts:
        if isinstance(part, Threshold):
            yield from _mentioned(part)
        elif not 1 <= part <= NODE_ID_MAX:
            raise QuorumError(f"member ids are 1 to {NODE_ID_MAX}, not {part}")
        else:
            yield part


def _projections(members: tuple[int, ...]) -> dict[int, int]:
    """For each member, the sets that hold it: runs of 2^i zeros and 2^i ones, to the end of the table."""
    sets = 1 << len(members)
    found = {}
    for position, member in enumerate(members):
        run = 1 << position
        # The geometric series that repeats "run ones after run zeros" sets / (2 run) times.
        found[member] = (((1 << run) - 1) << run) * (((1 << sets) - 1) // ((1 << 2 * run) - 1))
    return found


def _truths(expression: Threshold, holding: dict[int, int]) -> int:
    """The sets that satisfy an expression. `reached[w]`: the sets in which parts of weight w or more agree so far."""
    reached = [0] * (expression.need + 1)
    for weight, part in expression.parts:
        agree = _truths(part, holding) if isinstance(part, Threshold) else holding[part]
        for total in range(expression.need, 0, -1):
            before = total - weight
            reached[total] |= agree if before <= 0 else agree & reached[before]
    return reached[expression.need]


def _check_intersection(members: tuple[int, ...], one: int, two: int) -> None:
    """Raise unless no set is a phase-1 quorum while the rest of the members is a phase-2 quorum."""
    sets = 1 << len(members)
    # The complement of set m is set (sets - 1 - m), so the sets whose complement is in `two` are `two` read backwards.
    apart = one & int(f"{two:0{sets}b}"[::-1], 2)
    if apart:
        mask = (apart & -apart).bit_length() - 1
        first = _shrink(one, mask)
        second = _shrink(two, sets - 1 - mask)
        raise QuorumError(
            f"phase-1 quorum {_braces(members, first)} and phase-2 quorum {_braces(members, second)} share no member: "
            "two values could be chosen"
        )


def _shrink(truths: int, mask: int) -> int:
    """A smallest quorum within a quorum."""
    for bit in _bits(mask):
        if truths >> (mask & ~bit) & 1:
            mask &= ~bit
    return mask


def _bits(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


def _names(members: tuple[int, ...], mask: int) -> tuple[int, ...]:
    return tuple(member for position, member in enumerate(members) if mask >> position & 1)


def _braces(members: tuple[int, ...], mask: int) -> str:
    return "{" + ", ".join(map(str, _names(members, mask))) + "}"
