"""Quorum systems with one rule broken, and the test that must fail under it."""

from mutating import Mutant


def _mutant(name: str, old: str, new: str, killer: str, **arguments: object) -> Mutant:
    return Mutant(name, "flexible", old, new, killer, tuple(arguments.items()))


MUTANTS = (
    _mutant(
        "half is a majority",
        "counts(members, len(members) // 2 + 1, len(members) // 2 + 1)",
        "counts(members, (len(members) + 1) // 2, len(members) // 2 + 1)",
        "test_a_majority_is_more_than_half",
        size=4,
    ),
    _mutant(
        "nothing is checked to intersect",
        "    if apart:\n",
        "    if not sets:\n",
        "test_pitfall_03_counts_are_counted_right_for_every_subset",
        size=2,
    ),
    _mutant(
        "only disjoint halves are checked",
        "    apart = one & int(",
        "    apart = one & 1 << sets // 2 & int(",
        "test_pitfall_03_counts_are_counted_right_for_every_subset",
        size=5,
    ),
    _mutant(
        "one agreement too few is enough",
        "        for total in range(expression.need, 0, -1):",
        "        for total in range(expression.need - 1, 0, -1):",
        "test_pitfall_03_counts_are_counted_right_for_every_subset",
        size=3,
    ),
    _mutant(
        "a part may agree more than once",
        "        for total in range(expression.need, 0, -1):",
        "        for total in range(1, expression.need + 1):",
        "test_pitfall_03_counts_are_counted_right_for_every_subset",
        size=3,
    ),
    _mutant(
        "weights are ignored",
        "            before = total - weight",
        "            before = total - 1",
        "test_weights_add_up",
    ),
    _mutant(
        "phase 2 looks into the table of phase 1",
        "        return bool(self.tables[1][mask >> 3] >> (mask & 7) & 1)",
        "        return bool(self.tables[0][mask >> 3] >> (mask & 7) & 1)",
        "test_weights_add_up",
    ),
    _mutant(
        "the dual needs what the expression needs",
        "    return Threshold(total - expression.need + 1, parts)",
        "    return Threshold(expression.need, parts)",
        "test_the_dual_of_a_count_is_the_smallest_count_that_meets_it",
    ),
    _mutant(
        "the pair that is named is not the smallest",
        "        first = _shrink(one, mask)",
        "        first = mask | 0 * _shrink(one, mask)\n        first = first if first.bit_count() > 2 else sets - 1",
        "test_the_named_pair_are_smallest_quorums_that_share_no_member",
    ),
    _mutant(
        "a quorum that needs nobody",
        "    if not 1 <= expression.need <= total:",
        "    if not 0 <= expression.need <= total:",
        "test_pitfall_03_a_phase_needs_somebody",
    ),
)
