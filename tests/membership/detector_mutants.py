"""Detectors, packets and cuts with one rule broken, and the test that must fail under it."""

from mutating import Mutant


def _detector(name, module, old, new, killer, **arguments):
    return ("detectors", Mutant(name, module, old, new, f"test_detectors.{killer}", tuple(arguments.items())))


DETECTORS = (
    _detector(
        "the halves of phi change places",
        "phi",
        "if elapsed > mean else",
        "if elapsed <= mean else",
        "test_phi_normal_is_0_and_infinity_at_the_extremes_and_never_an_error",
        y=21.0,
    ),
    _detector(
        "exp overflows",
        "phi",
        "math.exp(exponent) if exponent < _EXPONENT_MAX else math.inf",
        "math.exp(exponent)",
        "test_phi_normal_is_0_and_infinity_at_the_extremes_and_never_an_error",
        y=-100.0,
    ),
    _detector(
        "log10 of 0",
        "phi",
        "0.0 - math.log10(late) if late > 0.0 else math.inf",
        "0.0 - math.log10(late)",
        "test_phi_normal_is_0_and_infinity_at_the_extremes_and_never_an_error",
        y=22.0,
    ),
    _detector(
        "phi is -0.0",
        "phi",
        "0.0 - math.log10(late)",
        "-math.log10(late)",
        "test_phi_normal_is_0_and_infinity_at_the_extremes_and_never_an_error",
        y=-100.0,
    ),
    _detector(
        "the pause is forgotten",
        "phi",
        "self._window.mean + self._method.pause",
        "self._window.mean",
        "test_the_pause_is_added_to_the_mean_and_the_deviation_has_a_floor",
    ),
    _detector(
        "the deviation has no floor",
        "phi",
        "max(math.sqrt(self._window.variance), self._method.deviation_min)",
        "math.sqrt(self._window.variance) or 1e-9",
        "test_the_pause_is_added_to_the_mean_and_the_deviation_has_a_floor",
    ),
    _detector(
        "the oldest stays",
        "window",
        "            self._sum -= oldest\n",
        "",
        "test_the_variance_is_that_of_the_window_and_the_oldest_leaves",
    ),
    _detector(
        "the first estimate has no spread",
        "phi",
        "self._window.append(method.first_interval * 0.75)",
        "self._window.append(method.first_interval * 1.25)",
        "test_the_first_heartbeat_counts_as_two_samples_a_quarter_around_the_estimate",
    ),
    _detector(
        "a margin may vanish",
        "timeouts",
        "max(method.margin_min, method.beta",
        "max(1e-9, method.beta",
        "test_the_margin_of_bertier_shrinks_in_calm_times_and_keeps_its_floor",
    ),
    _detector(
        "lost heartbeats shift the schedule",
        "timeouts",
        "return round((now - self._base - self._window.mean) / self._interval)",
        "return self.count + 1",
        "test_without_a_sequence_what_was_lost_is_inferred_from_the_time_by_both",
    ),
    _detector(
        "a late heartbeat counts",
        "detector",
        "                if sequence <= watch.sequence:\n                    return\n",
        "",
        "test_heartbeats_that_come_twice_or_late_change_nothing",
    ),
    _detector(
        "peers have no bound",
        "detector",
        "if len(self._watches) >= self._peers_max:",
        "if not self._peers_max:",
        "test_peers_are_bounded_and_can_be_removed",
    ),
    _detector(
        "the queue grows with each heartbeat",
        "detector",
        "        if due < watch.scheduled:",
        "        if due:",
        "test_the_queue_does_not_grow_with_the_heartbeats",
    ),
    _detector(
        "mistakes last until the end",
        "quality",
        "durations.append(min(time, up_until) - open_since)",
        "durations.append(up_until - open_since)",
        "test_quality_measures_detection_recurrence_and_duration",
    ),
)


def _module(name, module, old, new, killer, **arguments):
    return (module, Mutant(name, module, old, new, f"test_{module}.{killer}", tuple(arguments.items())))


#: Of single modules.
MODULES = (
    _module(
        "proposed while somebody is in flux",
        "cuts",
        "            if not self._flux:",
        "            if subject:",
        "test_nothing_is_proposed_while_somebody_is_in_flux",
    ),
    _module(
        "a second report on a ring counts",
        "cuts",
        "        if rings >> ring & 1:\n            return ()\n",
        "",
        "test_a_second_report_on_one_ring_counts_for_nothing",
    ),
    _module(
        "in flux one report too late",
        "cuts",
        "        if count == options.low:",
        "        if count == options.low + 1:",
        "test_l_reports_put_a_subject_in_flux",
    ),
    _module(
        "sure one report too early",
        "cuts",
        "        if count == options.high:",
        "        if count == options.high - 1:",
        "test_h_reports_about_one_subject_make_a_proposal_and_no_fewer",
    ),
    _module(
        "observers that are sure are trusted",
        "cuts",
        "observer in self._flux or observer in self._sure or observer in proposed",
        "observer in self._flux or observer in proposed",
        "test_observers_that_are_in_flux_or_sure_themselves_count_as_reports",
    ),
    _module(
        "observers that are in flux are trusted",
        "cuts",
        "observer in self._flux or observer in self._sure or observer in proposed",
        "observer in self._sure or observer in proposed",
        "test_two_that_watch_each_other_are_proposed_together",
    ),
    _module(
        "a view remembers the last one",
        "cuts",
        "        self._rings.clear()\n",
        "",
        "test_a_new_view_begins_from_nothing",
    ),
    _module(
        "half is a fast quorum",
        "cuts",
        "return n - (n - 1) // 4",
        "return n - (n - 1) // 2",
        "test_the_fast_quorum_is_three_quarters",
        n=100,
        quorum=76,
    ),
    _module(
        "clusters are not told apart",
        "packets",
        "        self._cluster = name\n",
        "        self._cluster = name[:0]\n",
        "test_members_of_other_clusters_and_with_other_keys_are_outsiders",
    ),
    _module(
        "a clear packet passes where there are keys",
        "packets",
        "if self._ciphers else self._checked(key_id, datagram)",
        "if key_id else self._checked(key_id, datagram)",
        "test_members_of_other_clusters_and_with_other_keys_are_outsiders",
    ),
    _module(
        "only the first key opens",
        "packets",
        "        for key in keys:\n",
        "        for key in keys[:1]:\n",
        "test_keys_are_changed_without_a_moment_in_which_members_do_not_understand_each_other",
    ),
    _module(
        "one nonce for all packets",
        "packets",
        "        nonce = self._nonces()\n",
        "        nonce = bytes(12)\n",
        "test_each_packet_has_its_own_nonce",
    ),
    _module(
        "the checksum is not looked at",
        "packets",
        "        if key_id != 0 or crc != self._crc(datagram[: _HEADER.size], content):",
        "        if key_id != 0 or crc < 0:",
        "test_what_outsiders_send_is_refused_before_it_is_parsed",
    ),
    _module(
        "claims of members are not checked",
        "packets",
        "        check_message(message)\n",
        "",
        "test_claims_that_no_member_makes_do_not_pass",
    ),
)
