"""The Raft machine with one rule broken: each mutant is a known bug, and names the test that must fail under it.

A mutant replaces one piece of the source text of one module. The whole package is then imported once more under
another name, so the real one stays as it is. A piece that is no longer found exactly once is an error.
"""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from itertools import count
from pathlib import Path
from types import ModuleType

import distkit.raft.messages

PACKAGE = "distkit.raft"
_numbers = count(1)


@dataclass(frozen=True)
class Mutant:
    """`module` of the package with `old` replaced by `new` fails the test `killer` (file.function, with arguments)."""

    name: str
    module: str
    old: str
    new: str
    killer: str
    arguments: tuple[tuple[str, object], ...] = ()


class _Copy(MetaPathFinder, Loader):
    """Imports the package under another name, with some modules changed. Messages stay the same classes."""

    def __init__(self, alias: str, mutants: tuple[Mutant, ...]) -> None:
        self.alias = alias
        self.mutants = mutants

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.alias and not name.startswith(self.alias + "."):
            return None
        original = find_spec(PACKAGE + name[len(self.alias) :])
        if original is None:
            return None
        package = original.submodule_search_locations is not None
        return spec_from_loader(name, self, origin=original.origin, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        short = module.__name__[len(self.alias) + 1 :]
        for mutant in self.mutants:
            if mutant.module == short:
                found = source.count(mutant.old)
                assert found == 1, f"mutant {mutant.name} no longer applies: its text is {found} times in {short}.py"
                source = source.replace(mutant.old, mutant.new)
        tree = ast.parse(source, spec.origin)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and (node.module + ".").startswith(PACKAGE + "."):
                node.module = self.alias + node.module[len(PACKAGE) :]
        exec(compile(tree, spec.origin, "exec"), module.__dict__)


def load(*mutants: Mutant) -> ModuleType:
    """A copy of distkit.raft with these changes."""
    alias = f"mutated_raft_{next(_numbers)}"
    finder = _Copy(alias, mutants)
    sys.meta_path.insert(0, finder)
    sys.modules[f"{alias}.messages"] = distkit.raft.messages
    try:
        return importlib.import_module(alias)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(alias)]:
            del sys.modules[name]


def _mutant(name: str, module: str, old: str, new: str, killer: str, **arguments: object) -> Mutant:
    return Mutant(name, module, old, new, killer, tuple(arguments.items()))


#: The number in a name is the row of the bug table that the test cites.
MUTANTS = (
    _mutant(
        "01 old entries are committed by counting",
        "replication",
        "if index > s.commit and s.window.term(index) == s.term:",
        "if index > s.commit:",
        "test_bugs_log.test_bug_01_figure_8_an_old_entry_commits_only_with_one_of_the_own_term",
    ),
    _mutant(
        "02 half of the voters is a quorum for commit",
        "replication",
        "index = quorum.majority_index(acked)",
        "index = sorted(acked)[len(acked) // 2]",
        "test_bugs_log.test_bug_02_commit_is_the_majority_by_sorting_after_every_single_acknowledgement",
        size=4,
    ),
    _mutant(
        "02 the own entries count before they are durable",
        "replication",
        "acked.append(s.flushed)",
        "acked.append(s.window.last)",
        "test_bugs_log.test_bug_02_two_of_five_never_commit_and_three_always_do",
        order=(2, 3, 4, 5),
    ),
    _mutant(
        "03 a hint is taken for what matches",
        "replication",
        "    progress.probe(min(rejected, agreed + 1))",
        "    progress.match = max(progress.match, agreed)\n    progress.probe(min(rejected, agreed + 1))",
        "test_bugs_log.test_bug_03_no_rejection_moves_match_or_commit",
        hint=(3, 1),
    ),
    _mutant(
        "04 answers of another session count",
        "replication",
        "if progress is None or progress.session != session:",
        "if progress is None:",
        "test_bugs_log.test_bug_04_acknowledgements_from_before_a_re_election_do_not_count",
    ),
    _mutant(
        "04 sessions repeat after a restart",
        "state",
        "self.session = random.getrandbits(47)",
        "self.session = 0",
        "test_bugs_log.test_bug_04_sessions_differ_over_a_restart",
    ),
    _mutant(
        "04 an acknowledgement is sent in a later term",
        "follower",
        "AppendEntriesReply(term, session, s.incarnation, True, index",
        "AppendEntriesReply(s.term, session, s.incarnation, True, index",
        "test_bugs_log.test_bug_04_an_acknowledgement_keeps_the_term_in_which_it_was_given",
    ),
    _mutant(
        "05 an append truncates what follows it, conflict or not",
        "follower",
        "conflict = window.conflict(first, blocks)",
        "conflict = max(first, s.commit + 1)",
        "test_bugs_log.test_bug_05_an_older_shorter_append_never_truncates_whatever_the_order",
    ),
    _mutant(
        "05 an append replaces from its first entry on",
        "follower",
        "        _truncate(s, conflict)",
        "        conflict = first\n        _truncate(s, conflict)",
        "test_bugs_log.test_bug_05_only_the_conflicting_part_is_replaced",
    ),
    _mutant(
        "05 the term of the entry before is not compared",
        "follower",
        "if window.term(previous) != message.prev_term:",
        "if window.term(previous) < 0:",
        "test_bugs_log.test_bug_05_the_entry_before_an_append_must_have_the_same_term",
    ),
    _mutant(
        "06 an append commits up to the own last entry",
        "follower",
        "_commit(s, min(message.commit, last))",
        "_commit(s, min(message.commit, s.window.last) + 0)",
        "test_bugs_log.test_bug_06_an_append_commits_no_more_than_its_last_entry",
    ),
    _mutant(
        "06 a heartbeat commits what the log does not hold",
        "follower",
        "_commit(s, min(message.commit, s.window.last))",
        "_commit(s, message.commit)",
        "test_bugs_log.test_bug_06_a_heartbeat_commits_no_more_than_the_log_holds",
    ),
    _mutant(
        "07 a grant leaves before the vote is durable",
        "election",
        "    s.then.append((source, reply))",
        "    s.sends.append((source, reply))",
        "test_bugs_votes.test_bug_07_a_grant_leaves_only_after_the_vote_is_durable",
    ),
    _mutant(
        "07 the vote is not written when only the vote changed",
        "durable",
        "    hard = (s.term, s.vote)\n",
        "    hard = (s.term, s.hard_written[1] if s.term == s.hard_written[0] else s.vote)\n",
        "test_paper_elections.test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served",
        vote=0,
        candidate=2,
        granted=True,
    ),
    _mutant(
        "07 the vote is forgotten at a restart",
        "state",
        "self.vote = durable.vote",
        "self.vote = 0",
        "test_bugs_votes.test_bug_07_term_and_vote_survive_the_restart_of_all_nodes_at_once",
    ),
    _mutant(
        "07 the term is forgotten at a restart",
        "state",
        "self.term = durable.term",
        "self.term = durable.window.last_term",
        "test_bugs_votes.test_bug_23_a_node_with_a_higher_term_rejoins",
    ),
    _mutant(
        "07 the own vote counts at once",
        "roles",
        "        s.vote = s.node\n",
        "        s.vote = s.node\n        s.votes[s.node] = True\n",
        "test_bugs_votes.test_bug_07_the_own_vote_counts_only_once_it_is_durable",
    ),
    _mutant(
        "07 vote requests leave before the term is durable",
        "election",
        "            s.then.append((voter, request))",
        "            s.sends.append((voter, request))",
        "test_votes.test_a_vote_request_waits_for_term_and_vote_and_the_own_vote_counts_only_then",
    ),
    _mutant(
        "08 every answer counts as another voter",
        "election",
        "    s.votes.setdefault(source, message.granted)",
        "    s.votes[source if source not in s.votes else 6 - len(s.votes)] = message.granted",
        "test_bugs_votes.test_bug_08_repeated_answers_of_one_voter_count_once",
        pre=False,
    ),
    _mutant(
        "08 the last answer of a voter counts",
        "election",
        "    s.votes.setdefault(source, message.granted)",
        "    s.votes[source] = message.granted",
        "test_bugs_votes.test_bug_08_the_first_answer_of_a_voter_counts",
    ),
    _mutant(
        "09 a refused candidate is recorded as voted for",
        "election",
        "    if message.term < s.term or not free",
        "    s.vote = s.vote or (0 if message.pre else source)\n    if message.term < s.term or not free",
        "test_bugs_votes.test_bug_09_a_refused_candidate_leaves_no_vote_behind",
        last_index=1,
        last_term=2,
        transfer=False,
    ),
    _mutant(
        "09 a transfer campaign is not judged by its log",
        "election",
        "or not up_to_date or",
        "or not (up_to_date or message.transfer) or",
        "test_bugs_votes.test_bug_09_a_refused_candidate_leaves_no_vote_behind",
        last_index=1,
        last_term=2,
        transfer=True,
    ),
    _mutant(
        "09 a repeated request is granted unseen",
        "election",
        "or not up_to_date or",
        "or not (up_to_date or s.vote == source) or",
        "test_bugs_votes.test_bug_09_a_candidate_that_repeats_its_request_is_judged_by_its_log_again",
    ),
    _mutant(
        "09 the longer log wins whatever its term",
        "election",
        "(message.last_term, message.last_index) >= (s.window.last_term, s.window.last)",
        "(message.last_index, message.last_term) >= (s.window.last, s.window.last_term)",
        "test_bugs_votes.test_bug_09_the_log_of_the_candidate_is_compared_by_term_before_index",
    ),
    _mutant(
        "09 a node votes while its snapshot is not durable",
        "election",
        "not up_to_date or s.restoring:",
        "not (up_to_date or s.restoring):",
        "test_bugs_votes.test_bug_09_no_vote_is_given_while_a_snapshot_is_not_durable_and_loaded",
    ),
    _mutant(
        "a message of the same term clears the vote",
        "roles",
        "    if term > s.term:\n",
        "    if term >= s.term:\n",
        "test_paper_elections.test_with_one_leader_a_term_elections_from_every_node_never_give_two",
    ),
    _mutant(
        "pre-votes count as votes",
        "election",
        "message.pre != s.pre or ",
        "",
        "test_votes.test_a_real_candidate_ignores_late_pre_vote_grants",
    ),
    _mutant(
        "15 votes count by id alone",
        "machine",
        "if kind in WITH_INCARNATION and message.incarnation != s.incarnations[source]:",
        "if kind in WITH_INCARNATION and not message.incarnation:",
        "test_bugs_votes.test_bug_15_votes_and_acknowledgements_of_another_incarnation_count_for_nothing",
    ),
    _mutant(
        "15 candidates are known by id alone",
        "machine",
        "WITH_INCARNATION = frozenset((RequestVote, RequestVoteReply,",
        "WITH_INCARNATION = frozenset((RequestVoteReply,",
        "test_bugs_votes.test_bug_15_a_wiped_candidate_gets_no_vote",
    ),
    _mutant(
        "15 a machine starts on any disk",
        "machine",
        "if member is not None and member.incarnation != incarnation:",
        "if member is None:",
        "test_bugs_votes.test_bug_15_a_machine_does_not_start_on_the_disk_of_another_incarnation",
    ),
    _mutant(
        "17 reads do not wait for a commit of the own term",
        "reads",
        "if s.commit < s.term_start:",
        "if s.commit < 0:",
        "test_bugs_reads.test_bug_17_a_read_right_after_the_election_waits_for_the_own_term_commit",
    ),
    _mutant(
        "18 all rounds have the same position",
        "reads",
        "        s.read_position += 1\n",
        "",
        "test_bugs_reads.test_bug_18_repeated_and_delayed_heartbeat_answers_confirm_no_later_read",
    ),
    _mutant(
        "18 one answer confirms a read",
        "reads",
        "if quorum.majority_index(positions) < s.read_position:",
        "if max(positions[:-1], default=s.read_position) < s.read_position:",
        "test_bugs_reads.test_bug_18_one_voter_that_answers_often_is_no_quorum",
    ),
    _mutant(
        "18 reads join the round under way",
        "reads",
        "    if not s.reads_waiting or s.reads_round:\n",
        "    if s.reads_round:\n        s.reads_round += s.reads_waiting\n        s.reads_waiting = []\n"
        "    if not s.reads_waiting:\n",
        "test_bugs_reads.test_bug_18_a_read_that_joins_during_a_round_waits_for_the_next_one",
    ),
    _mutant(
        "18 questions of a follower have the same position",
        "reads",
        "        s.request_position += 1\n",
        "        s.request_position = 1\n",
        "test_bugs_reads.test_bug_18_a_late_answer_fits_no_later_question_of_a_follower",
    ),
    _mutant(
        "18 questions of every start look the same",
        "state",
        "self.origin = random.getrandbits(63)",
        "self.origin = 1",
        "test_bugs_reads.test_bug_18_questions_from_before_a_restart_are_not_taken_for_new_ones",
    ),
    _mutant(
        "a read is answered without asking a quorum",
        "reads",
        "if quorum.majority_index(positions) < s.read_position:",
        "if False:",
        "test_bugs_reads.test_no_read_is_answered_by_a_leader_that_a_quorum_left",
    ),
    _mutant(
        "22 votes of lower terms are dropped without a word",
        "machine",
        "        if kind is RequestVote:\n            return True  # refused",
        "        if kind is RequestVote:\n            return False  # refused",
        "test_bugs_votes.test_bug_22_a_higher_term_with_a_shorter_log_does_not_block_elections",
        down=3,
    ),
    _mutant(
        "22 the timeout is drawn once",
        "roles",
        "s.options.election_timeout * (1.05 + 0.95 * s.random.random())\n\n\ndef heard",
        "s.options.election_timeout * 1.5\n\n\ndef heard",
        "test_bugs_votes.test_bug_22_the_timer_of_a_node_is_drawn_anew_after_a_lost_pre_vote",
    ),
    _mutant(
        "23 a leader of an old term is not told",
        "machine",
        "            s.then.append((source, reply))\n",
        "",
        "test_bugs_votes.test_bug_23_a_node_with_a_higher_term_rejoins",
    ),
    _mutant(
        "24 no stickiness",
        "election",
        "return s.leader != 0 and now - s.leader_heard < s.options.election_timeout",
        "return False",
        "test_votes.test_a_vote_is_ignored_without_taking_its_term_while_a_leader_was_heard",
        pre=False,
    ),
    _mutant(
        "24 no pre-vote",
        "election",
        "become_candidate(s, now, pre=not transfer)",
        "become_candidate(s, now, pre=False)",
        "test_bugs_votes.test_bug_24_partial_connectivity_leaves_a_stable_leader_that_commits",
        shape="chain",
        first=1,
    ),
    _mutant(
        "24 a leader without a quorum stays",
        "replication",
        "if active < s.majority:",
        "if active < 1:",
        "test_bugs_votes.test_bug_24_partial_connectivity_leaves_a_stable_leader_that_commits",
        shape="hub",
        first=1,
    ),
    _mutant(
        "25 a peer below the log gets nothing",
        "replication",
        "        _send_snapshot(s, progress)\n        return False\n",
        "        return False\n",
        "test_bugs_disk.test_bug_25_an_idle_group_whose_log_is_purged_still_brings_a_peer_up_after_a_new_election",
    ),
    _mutant(
        "25 a failed snapshot is not tried again",
        "replication",
        "    pending = progress.pending_snapshot if ok else 0\n",
        "    pending = progress.pending_snapshot\n    if not ok:\n        return\n",
        "test_bugs_disk.test_bug_25_a_snapshot_that_was_lost_is_sent_again",
    ),
    _mutant(
        "26 a full window is not probed after a heartbeat",
        "replication",
        "        _append(s, progress, empty=True)\n",
        "        pass\n",
        "test_bugs_disk.test_bug_26_a_full_window_whose_answers_are_all_lost_moves_again_on_heartbeats",
        arrived=True,
    ),
    _mutant(
        "26 the byte counter leaks",
        "progress",
        "        self.inflight.clear()\n        self.inflight_bytes = 0\n",
        "        self.inflight.clear()\n",
        "test_bugs_disk.test_bug_26_both_counters_of_the_window_are_zero_after_each_change_of_state",
        reset="rejection",
    ),
    _mutant(
        "27 an acknowledgement does not end the snapshot",
        "replication",
        "installed = progress.state is ProgressState.SNAPSHOT and progress.match >= s.window.base_index",
        "installed = False",
        "test_bugs_disk.test_bug_27_a_peer_returns_to_replication_after_a_snapshot_at_the_last_index",
    ),
    _mutant(
        "27 only the pending index ends the snapshot",
        "replication",
        "progress.match >= s.window.base_index",
        "progress.match == progress.pending_snapshot",
        "test_bugs_disk.test_bug_27_an_acknowledgement_above_the_pending_snapshot_is_taken",
    ),
    _mutant(
        "28 a purged previous entry is a conflict",
        "follower",
        "    if previous < s.commit:\n",
        "    if previous < 0:\n",
        "test_bugs_log.test_bug_28_an_append_from_below_the_purged_part_never_truncates",
        prev=3,
    ),
    _mutant(
        "29 a write in flight proves entries that were rewritten since",
        "follower",
        "        write.last = min(write.last, index - 1)\n",
        "        pass\n",
        "test_bugs_disk.test_bug_29_the_first_completion_marks_nothing_stable_that_was_rewritten_since",
    ),
    _mutant(
        "29 what is flushed does not fall with a truncation",
        "follower",
        "    s.flushed = min(s.flushed, index - 1)\n",
        "",
        "test_bugs_log.test_bug_05_only_the_conflicting_part_is_replaced",
    ),
    _mutant(
        "appends are acknowledged before they are durable",
        "follower",
        "        s.then.append((leader, AppendEntriesReply(term",
        "        s.sends.append((leader, AppendEntriesReply(term",
        "test_paper_replication.test_entries_are_durable_before_they_are_acknowledged",
    ),
    _mutant(
        "a repeated append is acknowledged while its first write is in flight",
        "follower",
        "        s.then.append((leader, AppendEntriesReply(term",
        "        (s.then if s.records else s.sends).append((leader, AppendEntriesReply(term",
        "test_bugs_disk.test_a_repeated_append_is_acknowledged_only_with_the_first_ones_write",
    ),
    _mutant(
        "30 a completion stands for its own write only",
        "durable",
        "while s.outstanding and s.outstanding[0].token <= token:",
        "if s.outstanding and s.outstanding[0].token == token:",
        "test_bugs_disk.test_bug_30_one_completion_wakes_everything_up_to_it",
    ),
    _mutant(
        "30 a late completion takes the watermark back",
        "durable",
        "    news = False\n",
        "    news = False\n    s.flushed = min(s.flushed, token)\n",
        "test_bugs_disk.test_bug_30_completions_are_a_watermark_in_any_order",
        order=(2, 0, 1),
    ),
    _mutant(
        "31 the commit index goes before the truncation and the snapshot that it speaks of",
        "durable",
        "        records = _with_hard_state(s)\n",
        "        records = (HardState(s.term, s.vote, s.commit), *s.records)\n",
        "test_bugs_disk.test_bug_31_a_commit_index_never_reaches_the_disk_ahead_of_the_truncation_it_needs",
    ),
    _mutant(
        "31 a snapshot does not reset the log",
        "follower",
        "SnapshotMark(s.term, s.vote, s.commit, True, 0, snapshot)",
        "SnapshotMark(s.term, s.vote, s.commit, False, 0, snapshot)",
        "test_paper_compaction.test_a_snapshot_is_durable_with_the_hard_state_in_one_record_before_it_is_acknowledged",
    ),
    _mutant(
        "32 the commit index may lie below the snapshot after a boot",
        "durable",
        "commit = min(max(commit, newest.index), window.last)",
        "commit = min(commit, window.last)",
        "test_bugs_disk.test_bug_32_any_order_of_snapshot_commit_and_applied_boots_and_applies_densely",
        commit=0,
        mark_first=False,
    ),
    _mutant(
        "32 entries that were removed later are replayed",
        "durable",
        "            end = min(end, record.index)\n",
        "            pass\n",
        "test_bugs_disk.test_bug_32_entries_before_a_snapshot_that_were_rewritten_later_do_not_hinder_the_boot",
    ),
    _mutant(
        "33 a commit index beyond the log is believed at boot",
        "durable",
        "commit = min(max(commit, newest.index), window.last)",
        "commit = max(commit, newest.index)",
        "test_bugs_log.test_bug_33_a_commit_beyond_the_log_at_boot_is_cut",
    ),
    _mutant(
        "33 a peer that lost its tail is asked without end",
        "replication",
        "    if rejected <= progress.match:\n",
        "    if rejected < 0:\n",
        "test_bugs_log.test_bug_33_a_follower_that_lost_its_tail_rejects_and_nobody_dies",
    ),
    _mutant(
        "a leader that lost its place ends its tickets",
        "proposals",
        "    while tickets and (tickets[0][1] <= commit or tickets[0][2] < committed_term):",
        "    while tickets and (tickets[0][1] <= commit or tickets[0][2] < s.term):",
        "test_bugs_log.test_a_ticket_waits_until_the_commit_index_decides_its_fate",
    ),
    _mutant(
        "tickets of an earlier leadership are in the way",
        "proposals",
        "    while tickets and (tickets[0][1] <= commit or tickets[0][2] < committed_term):",
        "    while tickets and tickets[0][1] <= commit:",
        "test_bugs_log.test_lost_tickets_of_an_earlier_leadership_do_not_hold_up_those_of_a_later_one",
    ),
    _mutant(
        "a transfer does not wait for the target's log",
        "replication",
        "s.progress[transfer.target].match == s.window.last",
        "s.progress[transfer.target].match >= 0",
        "test_votes.test_the_target_first_gets_all_entries",
    ),
    _mutant(
        "a node campaigns before it has replayed its commit",
        "election",
        " and s.applied >= s.boot_commit",
        "",
        "test_votes.test_a_node_replays_its_durable_commit_before_it_campaigns",
    ),
    _mutant(
        "committed entries are delivered before they are durable here",
        "machine",
        "target = min(s.commit, s.flushed)",
        "target = s.commit",
        "test_paper_replication.test_a_commit_may_run_ahead_of_the_leaders_disk_but_its_delivery_may_not",
    ),
)
