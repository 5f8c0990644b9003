"""Known bugs, put back one at a time: does a simulation find them, and how soon?

`CLASSIC` has the classic bugs of consensus systems, `REPLICA` those of sessions, forwarding, reads and snapshots, `LOG`
those of a write-ahead log, `RULES` the patches that ship with the tests of the bug tables of Raft (`tests/raft`).
`BLIND` names those of the latter that a simulation can't see, and why, `UNREACHABLE` those of the others. Bugs of
membership changes and of leases (a configuration that is torn between two quorums; a clock that was read before a
pause) have no mutant before there are such.

`PROOF` breaks the proof itself: the generator, the faults, the oracle. Each names a `sentinel`, a mutant that is no
longer caught then, or a `mark`, a rare thing that happens no more; or neither, if runs of the project itself fail.
"""

from __future__ import annotations

from dataclasses import dataclass

from mutants import MUTANTS as RAFT_MUTANTS
from sim_blind import BLIND, UNREACHABLE
from sim_copies import Patch


@dataclass(frozen=True)
class SimMutant:
    """Caught within `seeds` seeds of `profile`, `kind` D: the driver breaks a rule, S: the code that ships does."""

    name: str
    kind: str
    seeds: int
    patches: tuple[Patch, ...]
    profile: str = "lite"
    sentinel: str = ""
    mark: str = ""
    rare: bool = False  #: it takes more than a tenth of the seeds
    machine: str = "raft"


def _mutant(
    name: str,
    kind: str,
    seeds: int,
    *patches: tuple[str, str, str],
    profile: str = "lite",
    sentinel: str = "",
    mark: str = "",
    rare: bool = False,
) -> SimMutant:
    return SimMutant(name, kind, seeds, tuple(Patch(*patch) for patch in patches), profile, sentinel, mark, rare)


_STALE = ("raft.machine", 'with our term\n        s.count("stale")\n        return False\n')

CLASSIC = (
    _mutant(
        "messages leave before the write that they wait for",
        "D",
        200,
        (
            "sim.host",
            "        self.disk.submit(write)\n",
            "        self._release(write)\n        self.disk.submit(write)\n",
        ),
    ),
    _mutant(
        "a write counts before it is durable",
        "D",
        50,
        (
            "sim.host",
            "        self.disk.submit(write)\n",
            "        self.disk.submit(write)\n"
            "        boot = self.boots\n"
            "        self.world.timeline.after(0, self.world.WORK, self.id, lambda: self._early(write.token, boot))\n",
        ),
        (
            "sim.host",
            "    def start_disk(self) -> None:\n",
            "    def _early(self, token: int, boot: int) -> None:\n"
            "        if self.up and self.boots == boot and not self.paused:\n"
            "            self.input('persisted', token)\n\n"
            "    def start_disk(self) -> None:\n",
        ),
    ),
    _mutant(
        "a write counts twice, the second time with all that is under way",
        "D",
        200,
        (
            "sim.host",
            '        self.call("persisted", done[-1].token)\n',
            '        self.call("persisted", done[-1].token + len(self.disk._queue))\n',
        ),
    ),
    _mutant(
        "the hard state is forgotten at a restart",
        "D",
        100,
        (
            "sim.host",
            "world.system.boot(self, records, self._now())",
            "world.system.boot(self, [each for each in records if type(each).__name__ != 'HardState'], self._now())",
        ),
    ),
    _mutant(
        "the vote is forgotten at a restart, on a disk that has it",
        "D",
        1000,
        (
            "sim.host",
            "            records = self.disk.boot()\n",
            "            records = self.disk.boot()\n"
            "            for each in records:\n"
            "                if hasattr(each, 'vote'):\n"
            "                    each.vote = 0\n",
        ),
        ("sim.raft_oracle", "            self._survived(node, found)\n", "            pass\n"),
        rare=True,
    ),
    _mutant(
        "a wiped node comes back under its old id and votes",
        "D",
        300,
        (
            "sim.faults",
            '        host.barred = "its disk was wiped"\n        self.world.system.wiped(self.world, host)\n',
            "        host.disk = self.world.system.host(self.world, host.id).disk\n        self._start(host)\n",
        ),
        ("sim.raft_oracle", "            self._survived(node, found)\n", "            pass\n"),
    ),
    _mutant(
        "half of the voters elect a leader",
        "S",
        100,
        ("raft.state", "return len(self.voters) // 2 + 1", "return len(self.voters) // 2"),
    ),
    _mutant(
        "answers of voters are counted, not voters",
        "S",
        1000,
        (
            "raft.election",
            "    s.votes.setdefault(source, message.granted)\n",
            "    free = [each for each in s.voters if each not in s.votes]\n"
            "    s.votes.setdefault(source if source not in s.votes or not free else free[0], message.granted)\n",
        ),
        profile="five",
        rare=True,
    ),
    _mutant(
        "acknowledgements of an earlier term count",
        "S",
        1000,
        (_STALE[0], _STALE[1], _STALE[1].replace("False", "kind is AppendEntriesReply")),
        ("raft.replication", "if progress is None or progress.session != session:", "if progress is None:"),
        profile="hunt",
        rare=True,
    ),
    _mutant(
        "votes of an earlier term count",
        "S",
        300,
        (_STALE[0], _STALE[1], _STALE[1].replace("False", "kind is RequestVoteReply and not message.pre")),
        (
            "raft.election",
            "message.pre != s.pre or message.term != expected:",
            "message.pre != s.pre or message.term > expected:",
        ),
        profile="hunt",
    ),
    _mutant(
        "a leader sends without regard to its window",
        "S",
        100,
        ("raft.progress", "        return len(self.inflight) >=", "        return False and len(self.inflight) >="),
    ),
    _mutant(
        "a leader does not count what it sends",
        "S",
        100,
        ("raft.progress", "        self.inflight.append((last, size))\n", ""),
    ),
    _mutant(
        "a proposal ends as superseded when it is truncated",
        "S",
        100,
        (
            "raft.follower",
            "    s.window.truncate(index)\n",
            "    s.window.truncate(index)\n"
            "    for first, last, term, ticket in s.tickets:\n"
            "        if last >= index:\n"
            "            s.replies.append(Reply(ticket, Outcome.SUPERSEDED, last, first, term, leader=s.leader))\n"
            "    s.tickets = deque(each for each in s.tickets if each[1] < index)\n",
        ),
        (
            "raft.follower",
            "from distkit.core import Space\n",
            "from collections import deque\nfrom distkit.core import Outcome, Reply, Space\n",
        ),
        profile="hunt",
    ),
)

REPLICA = (
    _mutant(
        "a session does not look up what it has answered",
        "S",
        300,
        (
            "replica.applier",
            "            if answer is None:\n",
            "            if answer is None or isinstance(answer, bytes):\n",
        ),
    ),
    _mutant(
        "a session that is closed goes on",
        "S",
        600,
        ("replica.sessions", "        self._drop(session)\n        return b", "        return b"),
    ),
    _mutant(
        "an evicted session is taken for a new one",
        "S",
        300,
        (
            "replica.sessions",
            "        if state is None:\n            return Reason.SESSION_EXPIRED\n",
            "        if state is None:\n            state = self._sessions[session] = _Session(lowest)\n",
        ),
    ),
    _mutant(
        "answers are forgotten before their client has them",
        "S",
        300,
        (
            "replica.sessions",
            "            self._prune(state, lowest)\n",
            "            self._prune(state, lowest + 1)\n",
        ),
    ),
    _mutant(
        "a result that is too large is told only to the first who asks",
        "S",
        500,
        (
            "replica.applier",
            "                self.sessions.keep(session, sequence, answer)\n",
            "                self.sessions.keep(session, sequence, answer if isinstance(answer, bytes) else b'')\n",
        ),
        rare=True,
    ),
    _mutant(
        "sessions are never evicted",
        "S",
        300,
        ("replica.sessions", "        while len(sessions) > limits.sessions_max or (", "        while False and ("),
    ),
    _mutant(
        "a session takes up what its client is done with",
        "S",
        2000,
        ("replica.sessions", "        if sequence < state.lowest:\n", "        if sequence < 0:\n"),
        profile="hunt",
    ),
    _mutant(
        "a forwarded frame that comes twice is proposed twice",
        "S",
        300,
        ("replica.proposals", "        if self._repeated(source, message):\n", "        if False:\n"),
    ),
    _mutant(
        "a copy of a forwarded frame is refused by a former leader",
        "S",
        3000,
        (
            "replica.proposals",
            "        if self._repeated(source, message):\n",
            "        if raft.role is RoleName.LEADER and self._repeated(source, message):\n",
        ),
        rare=True,
    ),
    _mutant(
        "a read is served before its index is applied",
        "S",
        200,
        (
            "replica.reads",
            "heapq.heappush(self._waiting, (reply.index, reply.ticket, tickets))",
            "heapq.heappush(self._waiting, (0, reply.ticket, tickets))",
        ),
    ),
    _mutant(
        "what a lost connection may have carried counts as refused",
        "S",
        300,
        (
            "replica.proposals",
            "            self._drop(number, Outcome.LOST, Reason.NOT_LEADER, self._raft.leader)",
            "            self._drop(number, Outcome.REFUSED, Reason.NOT_LEADER, self._raft.leader)",
        ),
    ),
    _mutant(
        "what is not answered in time counts as refused",
        "S",
        500,
        (
            "replica.proposals",
            "(number, Outcome.LOST, Reason.NONE, self._raft.leader)\n        self._forward_deadline",
            "(number, Outcome.REFUSED, Reason.NONE, self._raft.leader)\n        self._forward_deadline",
        ),
    ),
    _mutant(
        "an answer to an earlier start of the node is taken",
        "S",
        300,
        (
            "replica.proposals",
            "        if message.origin != self._origin or forward is None",
            "        if forward is None",
        ),
        profile="hunt",
    ),
    _mutant(
        "answers after one that was lost are taken",
        "S",
        3000,
        (
            "replica.proposals",
            "        if message.position != forward.done or len(answers) > left:\n",
            "        if len(answers) > left:\n",
        ),
    ),
    _mutant(
        "a cancelled proposal is proposed all the same",
        "S",
        500,
        (
            "replica.proposals",
            "        del self._tickets[position], self._kinds[position], self._payloads[position]\n        return True",
            "        return True",
        ),
    ),
    _mutant(
        "what a snapshot covers counts as refused",
        "S",
        500,
        (
            "replica.proposals",
            "            self._end(batch, Outcome.LOST, Reason.SNAPSHOT, reply.leader)",
            "            self._end(batch, Outcome.REFUSED, Reason.SNAPSHOT, reply.leader)",
        ),
        profile="swarm",
    ),
    _mutant(
        "what a snapshot replaced counts as refused",
        "S",
        1000,
        (
            "replica.proposals",
            "            self._end(batch, Outcome.LOST, Reason.SNAPSHOT, self._raft.leader)",
            "            self._end(batch, Outcome.REFUSED, Reason.SNAPSHOT, self._raft.leader)",
        ),
        profile="hunt",
    ),
    _mutant(
        "a snapshot brings no sessions",
        "S",
        300,
        (
            "replica.sessions",
            "        self._sessions = sessions\n        self.bytes",
            "        self._sessions = OrderedDict()\n        self.bytes",
        ),
    ),
    _mutant(
        "a snapshot brings sessions without their answers",
        "S",
        500,
        (
            "replica.sessions",
            "            state.answers[sequence] = answer\n            state.bytes",
            "            state.bytes",
        ),
    ),
    _mutant(
        "the sessions of a snapshot are of when it is written",
        "S",
        500,
        (
            "replica.sessions",
            "        return _chunks(_stream(self._frozen()))",
            "        return (chunk for _ in (0,) for chunk in _chunks(_stream(self._frozen())))",
        ),
    ),
    _mutant(
        "old files go before the mark of the new snapshot is durable",
        "S",
        1000,
        (
            "replica.snapshots",
            "        while self._marks and self._marks[0][0] <= token:\n",
            "        while self._marks:\n",
        ),
        profile="hunt",
    ),
    _mutant(
        "the machine sees a snapshot that was not fetched",
        "S",
        1000,
        ("replica.snapshots", "replace(message, snapshot=snapshot)", "message"),
        profile="hunt",
    ),
    _mutant(
        "a snapshot is taken for one entry more than it holds",
        "S",
        200,
        ("replica.snapshots", "SaveSnapshot(applier.index,", "SaveSnapshot(applier.index - 1,"),
    ),
    _mutant(
        "the state is queried while a snapshot is being loaded",
        "S",
        1000,
        (
            "replica.core",
            "        if not self.loading:\n            self._reads.applied(self._applier.index)",
            "        self._reads.applied(self.raft.commit_index)",
        ),
    ),
)

LOG = (
    _mutant(
        "the log says that it is synced and is not",
        "D",
        300,
        ("sim.disks", "        self._log.sync()\n", ""),
        profile="swarm",
    ),
    _mutant(
        "a failed sync is tried again",
        "S",
        400,
        (
            "log.wal",
            '        except OSError as error:\n            raise self._fail("sync", error) from error\n',
            "        except OSError:\n            try:\n                self._files.fdatasync(self._handle)\n"
            '            except OSError as error:\n                raise self._fail("sync", error) from error\n',
        ),
        profile="swarm",
    ),
    _mutant(
        "the name of a new segment is not made durable",
        "S",
        100,
        (
            "log.wal",
            "            self._files.rename(NEXT, segment_name(segment))\n            self._files.fsync_dir()\n",
            "            self._files.rename(NEXT, segment_name(segment))\n",
        ),
        profile="swarm",
    ),
    _mutant(
        "a segment begins without the state of the one before",
        "S",
        100,
        (
            "log.wal",
            "        copies = [(kind, group, content) for (group, kind), content in self._state.items()]\n",
            "        copies: list[Record] = []\n",
        ),
        profile="swarm",
    ),
    _mutant(
        "the old segment is not synced before the new one begins",
        "S",
        1000,
        ("log.wal", "        self.sync()\n        old, old_handle", "        old, old_handle"),
        profile="hunt",
    ),
    _mutant(
        "what was not proven is not written again at a start",
        "S",
        1000,
        (
            "log.wal",
            "        wal._begin_first(last.id, last.end, recovered.unproven)",
            "        wal._begin_first(last.id, last.end, ())",
        ),
        profile="swarm",
    ),
    _mutant(
        "a segment goes though a peer still needs it",
        "S",
        400,
        (
            "log.wal",
            "            last <= self._released_index.get(each, 0) for each",
            "            last <= self._released_index.get(each, 0) + 50 for each",
        ),
        profile="swarm",
        rare=True,
    ),
)

#: What a patch of the bug tables needs that is not caught within 30 of 300 lite seeds: profile, seeds, rare.
_NEEDS = {
    "02 half of the voters is a quorum for commit": ("swarm", 100, False),
    "03 a hint is taken for what matches": ("hunt", 300, False),
    "06 an append commits up to the own last entry": ("hunt", 1000, False),
    "08 every answer counts as another voter": ("hunt", 1000, False),
    "09 a node votes while its snapshot is not durable": ("hunt", 1500, False),
    "09 the longer log wins whatever its term": ("lite", 1000, True),
    "17 reads do not wait for a commit of the own term": ("lite", 2000, False),
    "18 all rounds have the same position": ("lite", 1000, False),
    "18 one answer confirms a read": ("hunt", 500, False),
    "18 reads join the round under way": ("hunt", 300, False),
    "18 questions of a follower have the same position": ("hunt", 300, False),
    "18 questions of every start look the same": ("hunt", 300, False),
    "23 a leader of an old term is not told": ("lite", 2000, True),
    "26 an acknowledgement that makes room leaves the flush out": ("swarm", 1000, True),
    "29 a write in flight proves entries that were rewritten since": ("hunt", 200, False),
    "32 entries that were removed later are replayed": ("lite", 1000, False),
    "a leader that lost its place ends its tickets": ("hunt", 2000, True),
    "a read is answered without asking a quorum": ("lite", 1000, False),
    "tickets of an earlier leadership are in the way": ("hunt", 1000, True),
}


def _rule(name: str, *patches: Patch) -> SimMutant:
    profile, seeds, rare = _NEEDS.get(name, ("lite", 300, False))
    return SimMutant(name, "S", seeds, patches, profile, rare=rare)


RULES = tuple(
    _rule(each.name, Patch(f"raft.{each.module}", each.old, each.new))
    for each in RAFT_MUTANTS
    if each.name not in BLIND
)

PROOF = (
    _mutant(
        "operations without an answer are not in the history",
        "P",
        200,
        ("sim.clients", "        for running in self._unanswered:\n", "        for running in ():\n"),
    ),
    _mutant(
        "the disk loses nothing in a crash",
        "P",
        30,
        ("sim.disks", "            self.files.crash(random)\n", "            self.files.kill()\n"),
        profile="swarm",
        sentinel="the log says that it is synced and is not",
    ),
    _mutant(
        "clients use each key once, and nobody looks at the order of what is answered",
        "P",
        60,
        (
            "sim.clients",
            "        require(index > running.floor, rule, running.call",
            "        require(True, rule, running.call",
        ),
        (
            "sim.objects",
            "            key = keys[below(random, len(keys))]\n",
            "            key = f'{keys[below(random, len(keys))][0]}{number}'\n",
        ),
        ("sim.objects", 'key[0] not in "qm"})\n        last', 'key[0] not in "qm"})[:8]\n        last'),
        sentinel="17 reads do not wait for a commit of the own term",
    ),
    _mutant(
        "no message comes twice",
        "P",
        60,
        (
            "sim.network",
            "            return [(arrival, message), (arrival + number, message)]\n",
            "            return [(arrival, message)]\n",
        ),
        ("sim.network", "old = [line.past[number % len(line.past)]] if line.past else []", "old: list[Any] = []"),
        sentinel="a forwarded frame that comes twice is proposed twice",
    ),
    _mutant(
        "no node ever dies",
        "P",
        60,
        (
            "sim.faults",
            "        if not host.up:\n            return\n        if fault.detail",
            "        return\n        if fault.detail",
        ),
        mark="a node came back and replayed its log",
    ),
)

EVERY = (*CLASSIC, *REPLICA, *LOG, *RULES)
#: Those that the seeds must catch.
MUTANTS = tuple(mutant for mutant in EVERY if mutant.name not in UNREACHABLE)
