"""What happened, in words: the moments of a run that a person would tell, computed from its events."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from distkit.sim.picture.reading import Event
from distkit.sim.picture.run import Lane, Run
from distkit.sim.picture.things import Links

MOMENTS_MAX: Final = 400
LINKS_SHOWN: Final = 6
VOTES_MAX: Final = 200


@dataclass(slots=True)
class Moment:
    """`kind` is one of the words of `_COUNTED`. `last` is what a moment that goes on has reached."""

    time: float
    node: int
    kind: str
    text: str
    first: int = 0
    last: int = 0


_COUNTED: Final = {
    "election": ("election won", "elections won"),
    "campaign": ("campaign", "campaigns"),
    "crash": ("crash", "crashes"),
    "pause": ("pause", "pauses"),
    "cut": ("cut of links", "cuts of links"),
}


class Story:
    """Hears every event just before the run takes it."""

    def __init__(self, run: Run) -> None:
        self.moments: deque[Moment] = deque(maxlen=MOMENTS_MAX)
        self.counts: Counter[str] = Counter()
        self._run = run
        self._candidates: list[int] = []
        self._votes: dict[tuple[int, int], list[int]] = {}
        self._term = 0
        self._won = True

    def hear(self, event: Event) -> None:
        lane = self._run.lanes.get(event.node)
        leads = f", the leader of term {lane.term}," if lane is not None and lane.leads else ""
        if event.name in ("cut", "heal"):
            self._network(event)
        elif event.name in ("crash", "stop"):
            verb = "crashes" if event.name == "crash" else "stops"
            self._tell(event, "crash", f"Node {event.node}{leads} {verb}{_because(event)}.")
        elif event.name == "wipe" or (event.name == "restart" and event.number("boot", 0) != 1):
            verb = "restarts" if event.name == "restart" else "loses its disk"
            self._tell(event, event.name, f"Node {event.node} {verb}{_because(event)}.")
        elif event.name == "pause":
            self._tell(event, "pause", f"Node {event.node}{leads} is paused.")
        elif event.name == "receive":
            self._vote(event)
        elif event.name == "resume":
            self._tell(event, "resume", f"Node {event.node} goes on after its pause.")
        elif event.name == "clock":
            self._tell(event, "clock", f"The clock of node {event.node} jumps by {event.text('jump')} s.")
        elif event.name == "broken":
            self._tell(event, "broken", f"Broken: {event.text('text')}")
        elif lane is not None and "role" in event.fields:
            self._transition(event, lane)

    def _transition(self, event: Event, lane: Lane) -> None:
        role, term = event.text("role").lower(), event.number("term", lane.term)
        if role == "leader" and not (lane.leads and lane.term == term):
            self._wins(event, term)
        elif role == "candidate" and term > lane.term:
            self._campaigns(event, term)
        elif lane.leads and role != "leader":
            why = f"learns of term {term} and steps down" if term > lane.term else "steps down: it hears no majority"
            self._tell(event, "fall", f"Node {event.node}, the leader of term {lane.term}, {why}.")
        commit = event.number("commit", lane.commit)
        if role == "leader" and commit > lane.commit:
            self._commits(event, lane.commit + 1, commit)

    def _wins(self, event: Event, term: int) -> None:
        leaders = [(other.term, node) for node, other in self._run.lanes.items() if other.leads and node != event.node]
        same = [node for other, node in leaders if other == term]
        older = [(other, node) for other, node in leaders if other < term]
        if same:
            text = f"Node {event.node} also becomes leader of term {term}, which {_nodes(same)} already {_leads(same)}."
        else:
            text = f"Node {event.node} becomes leader of term {term}."
        text += self._voters(event.node, term)
        for other, node in older:
            text += f" Node {node} does not know yet and still leads term {other}."
        self._tell(event, "election", text)
        if term >= self._term:
            self._term, self._won = term, True

    def _vote(self, event: Event) -> None:
        """A vote reaches a candidate. Pre-votes count for nothing here."""
        message = self._run.letter(event.number("id"))
        if message is not None and message.name == "RequestVoteReply" and message.detail == "granted":
            votes = self._votes.setdefault((message.term, message.source), [])
            if event.node not in votes:
                votes.append(event.node)
            if len(self._votes) > VOTES_MAX:
                del self._votes[next(iter(self._votes))]

    def _voters(self, node: int, term: int) -> str:
        """Who made this node the leader; and who did that twice."""
        voters = [voter for (of, voter), votes in self._votes.items() if of == term and node in votes]
        text = f" {_nodes(voters).capitalize()} voted for it" if voters else ""
        for voter in sorted(voters):
            others = [other for other in self._votes[term, voter] if other != node]
            text += f"; node {voter} voted for {_nodes(others)} too" if others else ""
        return text and text + "."

    def _campaigns(self, event: Event, term: int) -> None:
        why = ""
        if term > self._term:
            if not self._won and len(self._candidates) > 1:
                why = f": nobody won term {self._term}, whose votes {_nodes(self._candidates)} split"
            self._term, self._won, self._candidates = term, False, [event.node]
        else:
            if self._won:
                why = ", though that term has a leader"
            elif self._candidates:
                why = f" against {_nodes(self._candidates)}"
            self._candidates.append(event.node)
        last = self.moments[-1] if self.moments else None
        if last is not None and last.kind == "campaign" and last.node == event.node and last.last < term and not why:
            last.last = term
            last.text = f"Node {event.node} campaigns in terms {last.first} to {term}, in vain so far."
            self.counts["campaign"] += 1
        else:
            self._tell(event, "campaign", f"Node {event.node} campaigns in term {term}{why}.", term, term)

    def _commits(self, event: Event, first: int, last: int) -> None:
        moment = self.moments[-1] if self.moments else None
        if moment is None or moment.kind != "commit" or moment.node != event.node:
            moment = self._tell(event, "commit", "", first, last)
        moment.last = last
        entries = f"entry {first}" if moment.first == last else f"entries {moment.first} to {last}"
        moment.text = f"Node {event.node} commits {entries}."

    def _network(self, event: Event) -> None:
        before, links = self._run.cut.links, event.links()
        if event.name == "cut":
            if self.moments and self.moments[-1].kind == "heal" and self.moments[-1].time == event.time:
                self.moments.pop()  # one change, in two events
            self._tell(event, "cut", f"The network breaks: {cut_text(before | links, list(self._run.lanes))}.")
        elif before:
            left = before - (links or before)
            still = f" in part; still {cut_text(left, list(self._run.lanes))}" if left else ""
            self._tell(event, "heal", f"The network heals{still}.")

    def _tell(self, event: Event, kind: str, text: str, first: int = 0, last: int = 0) -> Moment:
        moment = Moment(event.time, event.node, kind, text, first, last)
        self.moments.append(moment)
        self.counts[kind] += 1
        return moment


def cut_text(links: Links, nodes: list[int]) -> str:
    """Cut links for people: "1, 2 | 3, 4, 5" for a clean partition, else "1 → 2, 3 ↔ 4"."""
    sides = _sides(links, sorted({*nodes, *(end for link in links for end in link)}))
    if len(sides) > 1:
        return "partition " + " | ".join(", ".join(map(str, side)) for side in sides)
    names = []
    for a, b in sorted(links):
        if (b, a) not in links:
            names.append(f"{a} → {b}")
        elif a < b:
            names.append(f"{a} ↔ {b}")
    more = [f"and {len(names) - LINKS_SHOWN} more"] if len(names) > LINKS_SHOWN else []
    return "cut " + ", ".join(names[:LINKS_SHOWN] + more)


def _sides(links: Links, nodes: list[int]) -> list[list[int]]:
    """The groups that can talk within but not across, if the cut links are exactly those across; else one group."""
    left, sides = list(nodes), []
    while left:
        side = [left.pop(0)]
        for node in side:
            near = [other for other in left if not {(node, other), (other, node)} <= links]
            side += near
            left = [other for other in left if other not in near]
        sides.append(sorted(side))
    place = {node: number for number, side in enumerate(sides) for node in side}
    clean = all(place[a] != place[b] for a, b in links)
    return sides if clean else [nodes]


def summary(counts: Counter[str]) -> str:
    """Counts of moments in words; empty if there is nothing to say."""
    parts = [f"{counts[kind]} {names[counts[kind] != 1]}" for kind, names in _COUNTED.items() if counts[kind]]
    return _and(parts)


def _nodes(nodes: list[int]) -> str:
    return ("node " if len(nodes) == 1 else "nodes ") + _and([str(node) for node in sorted(nodes)])


def _leads(nodes: list[int]) -> str:
    return "leads" if len(nodes) == 1 else "lead"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _because(event: Event) -> str:
    reason = event.text("reason")
    return f" ({reason})" if reason else ""
