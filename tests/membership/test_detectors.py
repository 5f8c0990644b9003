"""Failure detectors against their definitions: numbers of the sources, extreme arguments, exact windows, quality."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.core import LocalError
from distkit.membership.detectors import (
    Bertier,
    Chen,
    Deadline,
    Detector,
    PhiExponential,
    PhiNormal,
    Suspected,
    Trusted,
    phi_exponential,
    phi_normal,
    quality,
    watch,
)
from distkit.membership.detectors.window import Window

METHODS = [Deadline(), PhiNormal(), PhiExponential(), Chen(), Bertier()]


def beats(count, interval=1.0, start=0.0):
    return [start + interval * number for number in range(count)]


# -- phi, normal (Akka) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("elapsed", "phi"), [(1000, 0.3010), (1200, 1.6428), (1400, 4.7367)])
def test_phi_normal_has_the_published_values(elapsed, phi):
    assert round(phi_normal(elapsed, 1000.0, 100.0), 4) == phi


def test_both_halves_of_phi_normal_meet_at_the_mean():
    assert phi_normal(1000.0, 1000.0, 100.0) == pytest.approx(math.log10(2), abs=1e-15)
    assert phi_normal(1000.0001, 1000.0, 100.0) == pytest.approx(math.log10(2), abs=1e-5)


@pytest.mark.parametrize("y", [-1e300, -1e6, -100.0, -21.5, -21.0, 21.0, 22.0, 100.0, 1e6, 1e300])
def test_phi_normal_is_0_and_infinity_at_the_extremes_and_never_an_error(y):
    phi = phi_normal(y, 0.0, 1.0)
    assert phi == math.inf if y >= 22 else 0.0 <= phi < math.inf
    assert math.copysign(1.0, phi) == 1.0, "-0.0"
    if y <= -21:
        assert phi == 0.0


@given(st.floats(-1e308, 1e308), st.floats(0, 1e308), st.floats(1e-300, 1e308))
def test_phi_normal_takes_all_finite_arguments(elapsed, mean, deviation):
    phi = phi_normal(elapsed, mean, deviation)
    assert phi >= 0.0
    assert math.copysign(1.0, phi) == 1.0


def test_the_first_heartbeat_counts_as_two_samples_a_quarter_around_the_estimate():
    estimate = PhiNormal(pause=0.0, deviation_min=0.001, first_interval=1.0).first(5.0, 0)
    assert (estimate.mean, estimate.deviation) == (1.0, 0.25)


def test_the_variance_is_that_of_the_window_and_the_oldest_leaves():
    estimate = PhiNormal(samples=3, pause=0.0, deviation_min=0.001, threshold=1000).first(0.0, 0)
    for time in (1.0, 3.0, 6.0):  # intervals 1, 2, 3: both first samples have left
        estimate.heartbeat(time, 0)
    assert estimate.mean == 2.0
    assert estimate.deviation == pytest.approx(math.sqrt(14 / 3 - 4), abs=1e-12)


def test_the_pause_is_added_to_the_mean_and_the_deviation_has_a_floor():
    estimate = PhiNormal(pause=3.0, deviation_min=0.1).first(0.0, 0)
    assert estimate.mean == 4.0
    estimate = PhiNormal(samples=2, pause=3.0, deviation_min=0.1).first(0.0, 0)
    for time in (1.0, 2.0, 3.0):
        estimate.heartbeat(time, 0)
    assert estimate.deviation == 0.1


@pytest.mark.parametrize("method", [PhiNormal(pause=0.0, samples=10), PhiExponential(samples=10)])
def test_an_interval_in_which_the_peer_was_down_is_not_recorded(method):
    detector = Detector(method)
    for time in beats(20):
        detector.heartbeat(time, "a")
    mean = detector._watches["a"].estimate.mean
    detector.heartbeat(1000.0, "a")
    assert detector._watches["a"].estimate.mean == mean
    detector.heartbeat(1000.9, "a")
    assert detector._watches["a"].estimate.mean != mean


# -- phi, exponential (Cassandra) -------------------------------------------------------------------------------------


def test_threshold_8_of_the_exponential_phi_is_18_42_means():
    assert phi_exponential(18.42 * 3, 3.0) == pytest.approx(8.0, abs=1e-3)
    assert phi_exponential(1.0, 1.0) == 1 / math.log(10)
    assert phi_exponential(-5.0, 1.0) == 0.0


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_is_exact_after_a_million_large_intervals():
    window = Window(1000)
    for number in range(1_000_000):
        window.append(86400.0 * 365 + number % 2 * 0.001)
    assert window.variance == pytest.approx(0.0005**2, rel=1e-9)
    assert window.mean == pytest.approx(86400.0 * 365 + 0.0005, abs=1e-8)


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=50), st.integers(1, 10))
def test_a_window_equals_the_sums_over_its_samples(nanoseconds, size):
    window = Window(size)
    for value in nanoseconds:
        window.append(value / 1e9)
    kept = [round(value / 1e9 * 10**9) for value in nanoseconds[-size:]]
    assert len(window) == len(kept)
    assert window.mean == sum(kept) / (len(kept) * 10**9)
    assert window.variance == (len(kept) * sum(v * v for v in kept) - sum(kept) ** 2) / (len(kept) * 10**9) ** 2


# -- deadline, Chen, Bertier ------------------------------------------------------------------------------------------


def test_a_deadline_detector_suspects_after_the_timeout():
    detector = Detector(Deadline(4.0))
    detector.heartbeat(10.0, "a")
    assert detector.suspicion(12.0, "a") == 0.5
    assert detector.available(13.999, "a")
    assert detector.deadline() == 14.0
    assert detector.flush(13.999) == ()
    assert detector.flush(14.0) == (Suspected("a"),)


def test_chen_expects_the_mean_shift_of_the_window_behind_the_schedule():
    estimate = Chen(interval=1.0, alpha=0.5, samples=2).first(100.0, 7)
    assert estimate.due() == 101.5
    estimate.heartbeat(101.2, 8)  # shifts 0 and 0.2: mean 0.1
    assert estimate.expected == pytest.approx(102.1)
    estimate.heartbeat(104.4, 11)  # one lost heartbeat or two change nothing: shifts 0.2 and 0.4
    assert estimate.expected == pytest.approx(105.3)
    assert estimate.suspicion(105.0) == 0.0
    assert estimate.suspicion(105.55) == pytest.approx(0.5)


def test_without_a_sequence_what_was_lost_is_inferred_from_the_time_by_both():
    for method in (Chen(), Bertier()):
        estimate = method.first(0.0, 0)
        for time in (1.0, 2.0, 500.1):
            estimate.heartbeat(time, None)
        assert estimate.expected == pytest.approx(501.0, abs=0.1)
        assert estimate.margin <= 1.2


def test_heartbeats_that_come_in_a_bunch_behind_a_pause_shift_nothing():
    for method in (Chen(), Bertier()):
        estimate = method.first(0.0, 0)
        for time in (1.0, 2.0, 6.1, 6.1, 6.1, 6.2, 7.0, 8.0):
            estimate.heartbeat(time, None)
        assert estimate.expected == pytest.approx(9.0, abs=0.1)


def test_bertier_follows_its_recurrences():
    estimate = Bertier(interval=1.0, samples=1000, gamma=0.1, first_margin=0.4, margin_min=0.001).first(0.0, 0)
    assert estimate.due() == pytest.approx(1.4)
    estimate.heartbeat(1.5, 1)
    error = 0.5
    delay, deviation = 0.1 * error, 0.1 + 0.1 * (abs(error) - 0.1)
    assert estimate.margin == pytest.approx(delay + 4 * deviation)
    assert estimate.expected == pytest.approx(2.25)
    estimate.heartbeat(2.25, 2)
    error = 0.0 - delay
    delay, deviation = delay + 0.1 * error, deviation + 0.1 * (abs(error) - deviation)
    assert (estimate.delay, estimate.deviation) == (pytest.approx(delay), pytest.approx(deviation))


def test_the_margin_of_bertier_shrinks_in_calm_times_and_keeps_its_floor():
    estimate = Bertier(margin_min=0.01).first(0.0, 0)
    for number in range(1, 200):
        estimate.heartbeat(float(number), number)
    assert estimate.margin == 0.01


def test_heartbeats_that_come_twice_or_late_change_nothing():
    for method in (Deadline(), PhiNormal(), Chen(), Bertier()):
        detector = Detector(method)
        detector.heartbeat(0.0, "a", 5)
        detector.heartbeat(1.0, "a", 6)
        due = detector._watches["a"].estimate.due()
        detector.heartbeat(1.5, "a", 6)
        detector.heartbeat(1.6, "a", 2)
        assert detector._watches["a"].estimate.due() == due


# -- the interface ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_suspicion_begins_at_0_rises_and_ends_in_an_event_at_the_deadline(method):
    detector = Detector(method)
    assert detector.suspicion(0.0, "a") == 0.0
    assert detector.available(0.0, "a")
    assert detector.deadline() == math.inf
    for time in beats(30):
        detector.heartbeat(time, "a")
        assert detector.flush(time) == ()
    last = 0.0
    for step in range(400):
        suspicion = detector.suspicion(29.0 + step, "a")
        assert suspicion >= last
        last = suspicion
    assert detector.suspicion(1e15, "a") >= 8.0
    events, now = [], 29.0
    for _ in range(100):
        now = detector.deadline()
        if now == math.inf:
            break
        events += [(now, event) for event in detector.flush(now)]
    assert [event for _, event in events] == [Suspected("a")]
    suspected_at = events[0][0]
    assert detector.suspicion(suspected_at, "a") >= method.threshold
    assert detector.suspicion(suspected_at - 0.01, "a") < method.threshold
    detector.heartbeat(suspected_at + 1, "a")
    assert detector.flush(suspected_at + 1) == (Trusted("a"),)


@pytest.mark.parametrize("method", METHODS)
def test_extreme_times_are_no_errors(method):
    detector = Detector(method)
    for time in (0.0, 0.0, 5e-324, 1e-9, 1.0, 1e9, 1e15, 1e15):
        detector.heartbeat(time, "a")
        for later in (0.0, time, time + 1e-9, 1e300):
            assert detector.suspicion(later, "a") >= 0.0
            assert math.copysign(1.0, detector.suspicion(later, "a")) == 1.0
        detector.flush(time)


def test_peers_are_bounded_and_can_be_removed():
    detector = Detector(Deadline(), peers_max=2)
    detector.heartbeat(0.0, "a")
    detector.heartbeat(0.0, "b")
    with pytest.raises(LocalError, match="2 peers"):
        detector.heartbeat(0.0, "c")
    detector.remove("a")
    detector.heartbeat(0.0, "c")
    assert detector.peers == ("b", "c")
    assert detector.flush(100.0) == (Suspected("b"), Suspected("c"))


def test_the_queue_does_not_grow_with_the_heartbeats():
    detector = Detector(PhiNormal())
    for time in beats(10_000, 0.01):
        detector.heartbeat(time, "a")
        detector.flush(time)
    assert len(detector._queue) < 50


@pytest.mark.parametrize("now", [math.nan, math.inf, -1.0])
def test_time_does_not_go_back(now):
    detector = Detector(Deadline())
    detector.heartbeat(1.0, "a")
    with pytest.raises(LocalError, match="time went back"):
        detector.heartbeat(now, "a")
    with pytest.raises(LocalError, match="time went back"):
        detector.flush(now)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Deadline(0.0),
        lambda: Deadline(math.inf),
        lambda: PhiNormal(threshold=math.nan),
        lambda: PhiNormal(deviation_min=0.0),
        lambda: PhiNormal(pause=-1.0),
        lambda: PhiNormal(samples=1),
        lambda: PhiExponential(interval_min=-1.0),
        lambda: Chen(alpha=0.0),
        lambda: Bertier(gamma=0.0),
        lambda: Detector(Deadline(), peers_max=0),
    ],
)
def test_options_that_make_no_sense_are_refused(make):
    with pytest.raises(LocalError):
        make()


# -- quality ----------------------------------------------------------------------------------------------------------


def test_quality_measures_detection_recurrence_and_duration():
    # A deadline of 1.5 s over beats at 0, 1, 3 (0.5 s of mistake), 4, 7 (1.5 s), 8, crash at 8.2.
    trace = watch(Detector(Deadline(1.5)), "a", [0.0, 1.0, 3.0, 4.0, 7.0, 8.0], 20.0)
    assert [(time, type(event)) for time, event in trace] == [
        (2.5, Suspected),
        (3.0, Trusted),
        (5.5, Suspected),
        (7.0, Trusted),
        (9.5, Suspected),
    ]
    found = quality(trace, 0.0, 20.0, crash=8.2)
    assert found.detection_time == pytest.approx(1.3)
    assert (found.mistakes, found.mistake_recurrence, found.mistake_duration) == (2, 3.0, 1.0)
    assert found.query_accuracy == pytest.approx(1 - 2 / 8.2)


def test_quality_without_a_crash_and_without_mistakes():
    found = quality(watch(Detector(Deadline(1.5)), "a", beats(10), 9.5), 0.0, 9.5)
    assert math.isnan(found.detection_time)
    assert math.isnan(found.mistake_recurrence)
    assert (found.mistakes, found.query_accuracy) == (0, 1.0)
    with pytest.raises(LocalError):
        quality([], 1.0, 1.0)


def test_an_undetected_crash_takes_for_ever():
    assert quality([], 0.0, 10.0, crash=5.0).detection_time == math.inf
