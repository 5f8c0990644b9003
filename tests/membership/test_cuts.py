"""Cut detection, rule by rule: L, H, duplicates, implicit reports, rings."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core import LocalError
from distkit.membership.cuts import CutDetector, CutOptions, Rings, fast_quorum

K, H, L = 10, 9, 4


def reported(detector, subject, count, first=0):
    """What these reports make it propose."""
    return [detector.report(subject, ring) for ring in range(first, first + count)]


def test_h_reports_about_one_subject_make_a_proposal_and_no_fewer():
    detector = CutDetector()
    assert reported(detector, "a", H - 1) == [()] * (H - 1)
    assert detector.report("a", H - 1) == ("a",)
    assert detector.report("a", K - 1) == ()


def test_l_reports_put_a_subject_in_flux():
    detector = CutDetector()
    reported(detector, "a", L - 1)
    assert detector.in_flux == ()
    detector.report("a", L - 1)
    assert detector.in_flux == ("a",)
    reported(detector, "a", H - L, first=L)
    assert detector.in_flux == ()


def test_nothing_is_proposed_while_somebody_is_in_flux():
    detector = CutDetector()
    reported(detector, "b", L)
    assert reported(detector, "a", K) == [()] * K
    assert (detector.in_flux, detector.waiting) == (("b",), ("a",))
    assert reported(detector, "b", H - L, first=L)[-1] == ("a", "b")


def test_noise_below_l_holds_nothing_up():
    detector = CutDetector()
    reported(detector, "b", L - 1)
    assert reported(detector, "a", H)[-1] == ("a",)


def test_a_second_report_on_one_ring_counts_for_nothing():
    detector = CutDetector()
    for _ in range(50):
        assert detector.report("a", 3) == ()
    reported(detector, "a", 2)
    assert detector.in_flux == ()
    reported(detector, "b", H)
    assert detector.report("b", 0) == ()


def test_observers_that_are_in_flux_or_sure_themselves_count_as_reports():
    detector = CutDetector()
    reported(detector, "a", H - 2)
    reported(detector, "b", H)
    watched = {"a": ["x"] * (H - 2) + ["b", "x", "x"], "b": ["x"] * K}
    assert detector.infer(lambda subject: watched[subject][:K]) == ()
    assert detector._rings["a"].bit_count() == H - 1
    watched["a"][H - 1] = "b"
    assert detector.infer(lambda subject: watched[subject][:K]) == ("b", "a")


def test_two_that_watch_each_other_are_proposed_together():
    detector = CutDetector()
    for subject in "ab":
        reported(detector, subject, H - 1)
    watched = {"a": ["x"] * (H - 1) + ["b"], "b": ["x"] * (H - 1) + ["a"]}
    assert detector.infer(lambda subject: watched[subject]) == ("a", "b")


def test_an_observer_that_is_up_is_no_report():
    detector = CutDetector()
    reported(detector, "a", H - 1)
    assert detector.infer(lambda subject: ["x"] * K) == ()


def test_members_that_watch_each_other_and_fail_together_are_proposed_together():
    members = [f"n{number}" for number in range(40)]
    rings = Rings(members)
    dead = set(members[:10])
    detector, proposals = CutDetector(), []
    for subject in sorted(dead):
        for ring, observer in enumerate(rings.observers(subject)):
            if observer not in dead:
                proposals.append(detector.report(subject, ring))
    assert not any(proposals)
    found = ()
    for _ in range(5):
        found = found or detector.infer(rings.observers)
    assert set(found) == dead


def test_a_new_view_begins_from_nothing():
    detector = CutDetector()
    reported(detector, "a", H - 1)
    reported(detector, "b", L)
    detector.clear()
    assert (detector.in_flux, detector.waiting) == ((), ())
    assert reported(detector, "a", H)[-1] == ("a",)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 5)), max_size=80))
def test_any_order_of_reports_gives_what_a_plain_count_gives(reports):
    options = CutOptions(6, 5, 2)
    detector = CutDetector(options)
    seen, waiting = {subject: set() for subject in "abcde"}, []
    for subject, ring in reports:
        before = len(seen[subject])
        seen[subject].add(ring)
        expected = ()
        if before == 4 and len(seen[subject]) == 5:
            waiting.append(subject)
            if not any(2 <= len(rings) < 5 for rings in seen.values()):
                expected, waiting = tuple(waiting), []
        assert detector.report(subject, ring) == expected


def test_all_observers_agree_on_the_same_cut_however_reports_are_ordered():
    members = [f"n{number}" for number in range(50)]
    rings, random = Rings(members), Random(3)
    dead = members[10:15]
    reports = [(s, ring) for s in dead for ring, o in enumerate(rings.observers(s)) if o not in dead]
    cuts = set()
    for _ in range(20):
        random.shuffle(reports)
        detector, found = CutDetector(), ()
        for subject, ring in reports:
            found += detector.report(subject, ring)
        for _ in range(3):
            found += detector.infer(rings.observers)
        cuts.add(frozenset(found))
    assert len(cuts) == 1


@pytest.mark.parametrize("values", [(2, 2, 1), (10, 11, 4), (10, 9, 10), (10, 9, 0), (65, 9, 4)])
def test_k_h_and_l_must_be_in_order(values):
    with pytest.raises(LocalError):
        CutOptions(*values)


def test_wrong_rings_and_too_many_subjects_are_refused():
    detector = CutDetector(subjects_max=1)
    for ring in (-1, K):
        with pytest.raises(LocalError, match="0 to 9"):
            detector.report("a", ring)
    detector.report("a", 0)
    with pytest.raises(LocalError, match="more than 1"):
        detector.report("b", 0)


# -- rings ------------------------------------------------------------------------------------------------------------


def test_everyone_has_k_observers_and_watches_k_subjects():
    members = [f"n{number}" for number in range(30)]
    rings = Rings(members)
    for member in members:
        for ring, observer in enumerate(rings.observers(member)):
            assert rings.subjects(observer)[ring] == member
    assert len({tuple(order) for order in rings._orders}) == K


def test_rings_do_not_depend_on_the_order_of_the_members():
    members = [f"n{number}" for number in range(30)]
    assert Rings(members[::-1]).observers("n7") == Rings(members).observers("n7")


def test_who_joins_is_watched_by_those_behind_its_place():
    members = [f"n{number}" for number in range(30)]
    before, after = Rings(members), Rings([*members, "new"])
    assert before.observers("new") == after.observers("new")
    assert before.subjects("new") == after.subjects("new")


@pytest.mark.parametrize(("n", "quorum"), [(1, 1), (4, 4), (5, 4), (9, 7), (100, 76), (1000, 751)])
def test_the_fast_quorum_is_three_quarters(n, quorum):
    assert fast_quorum(n) == quorum


def test_a_group_of_nobody_is_refused():
    with pytest.raises(LocalError):
        fast_quorum(0)
    with pytest.raises(LocalError):
        Rings([])
