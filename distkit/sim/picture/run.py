"""A run, folded from its events into the things of a picture: what each node was, who said what to whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Final

from distkit.core import LocalError
from distkit.sim.picture.reading import BROKEN_MAX, NAME_MAX, Event, malformed
from distkit.sim.picture.things import Commit, Cut, Links, Mark, Message, Operation, Span, Thing

#: So many things of each kind are kept, the newest ones: this bounds memory and the size of the picture.
THINGS_MAX: Final = 2500
NODES_MAX: Final = 40
ARRIVALS_MAX: Final = 3

#: Events that are told by the things; all others become marks.
_TOLD: Final = frozenset(("send", "receive", "drop", "cut", "heal", "invoke", "return", "pause", "resume", "Commit"))
_OF_NODES: Final = frozenset(("send", "receive", "crash", "stop", "restart", "pause", "resume"))


@dataclass(slots=True)
class Lane:
    """What is known of a node at the moment."""

    span: Span
    role: str = "follower"
    term: int = 0
    commit: int = 0
    up: bool = True
    paused: Span | None = None

    @property
    def state(self) -> str:
        return self.role if self.up else "down"

    @property
    def leads(self) -> bool:
        return self.up and self.role == "leader"


class Run:
    """All that was seen so far; of each kind of thing the newest."""

    def __init__(self) -> None:
        self.events = 0
        self.begin = self.end = 0.0
        self.lanes: dict[int, Lane] = {}
        self.messages: deque[Message] = deque(maxlen=THINGS_MAX)
        self.spans: deque[Span] = deque(maxlen=THINGS_MAX)
        self.cuts: deque[Cut] = deque(maxlen=THINGS_MAX)
        self.commits: deque[Commit] = deque(maxlen=THINGS_MAX)
        self.operations: deque[Operation] = deque(maxlen=THINGS_MAX)
        self.marks: deque[Mark] = deque(maxlen=THINGS_MAX)
        self.broken: Mark | None = None
        self.cut = Cut(0.0, 0.0, links=frozenset())
        self._letters: dict[int, Message] = {}
        self._open: dict[tuple[str, int], Operation] = {}

    def lane(self, node: int) -> Lane:
        """The lane of a node. LocalError if there are too many to draw."""
        lane = self.lanes.get(node)
        if lane is None:
            if len(self.lanes) >= NODES_MAX:
                raise LocalError(f"a picture has room for {NODES_MAX} nodes, and this run has more")
            lane = self.lanes[node] = Lane(Span(self.begin, self.begin, node, "follower", 0))
        return lane

    def advance(self, event: Event) -> None:
        """The next event comes: its time and its node are known, all else is as it was before."""
        if not self.events:
            self.begin = event.time
        self.events += 1
        self.end = event.time
        if event.node:
            self.lane(event.node)
        elif event.name in _OF_NODES or "role" in event.fields:
            raise malformed(event.line, f'"{event.name}" needs the "node" that it happens on')

    def add(self, event: Event) -> None:
        """What the event changes."""
        if event.name in ("send", "receive", "drop"):
            self._letter(event)
        elif event.name in ("cut", "heal"):
            self._network(event)
        elif event.name in ("invoke", "return"):
            self._client(event)
        if event.name not in _TOLD:
            self._mark(event)
        if event.node:
            self._process(self.lane(event.node), event)
            self._role(self.lane(event.node), event)

    def finish(self) -> None:
        """There are no more events: what is open ends here."""
        for lane in self.lanes.values():
            self._ended(lane.span)
            self._ended(lane.paused)
        self._cut(frozenset())

    def letter(self, name: int) -> Message | None:
        """The message of this number, if it is known."""
        return self._letters.get(name)

    # -- what a picture asks ------------------------------------------------------------------------------------------

    @property
    def known_since(self) -> float:
        """From here on nothing has been forgotten."""
        oldest = [self.begin]
        oldest += [things[0].times[0] for things in self._things if len(things) == THINGS_MAX]
        return min(max(oldest), self.end)

    def points(self, begin: float, end: float) -> Iterator[tuple[float, bool]]:
        """All moments within these two that something is drawn at, and whether it is of interest."""
        yield begin, True
        yield end, True
        for thing in chain(*self._things):
            for time in thing.times:
                if begin < time < end:
                    yield time, not thing.dull

    @property
    def _things(self) -> tuple[Sequence[Thing], ...]:
        return self.messages, self.spans, self.cuts, self.commits, self.operations, self.marks

    def flight(self, begin: float, end: float) -> float:
        """How long a message usually takes; without messages, an operation; without those, a part of the whole."""
        for things in (self.messages, self.operations):
            lasts = [
                times[1] - times[0]
                for times in (thing.times for thing in things)
                if times[1:] and begin <= times[0] <= end
            ]
            usual = median(lasts) if lasts else 0.0
            if usual > 0:
                return usual
        return (end - begin) / 20 or 1.0

    # -- one kind each ------------------------------------------------------------------------------------------------

    def _letter(self, event: Event) -> None:
        name = event.number("id")
        if event.name == "send":
            target = event.number("to")
            self.lane(target)
            known = self._letters.get(name)
            if known is not None and known.sent is not None:
                raise malformed(event.line, f"message {name} was sent before")
            message = Message(
                name,
                event.text("message", NAME_MAX),
                event.node,
                target,
                event.time,
                event.number("term", 0),
                event.text("detail"),
            )
            self._remember(message)
            return
        known = self._letters.get(name)
        if known is None:
            known = Message(name, "a message", event.number("from", 0), event.node, None, 0, "sent earlier")
            if event.name == "drop":
                return  # neither end of it is in the picture
            self._remember(known)
        if event.name == "drop":
            known.lost, known.reason = event.time, event.text("reason")
        elif len(known.arrivals) < ARRIVALS_MAX:
            known.arrivals.append(event.time)

    def _remember(self, message: Message) -> None:
        self.messages.append(message)
        self._letters[message.id] = message
        if len(self._letters) > 2 * THINGS_MAX:
            self._letters = {each.id: each for each in self.messages}

    def _network(self, event: Event) -> None:
        links = event.links()
        before = self.cut.links
        now = before | links if event.name == "cut" else before - (links or before)
        if now != self.cut.links:
            self._cut(now)

    def _cut(self, links: Links) -> None:
        if self.cut.links:
            self.cut.end = self.end
            self.cuts.append(self.cut)
        self.cut = Cut(self.end, self.end, links=links)

    def _client(self, event: Event) -> None:
        client = event.text("client", NAME_MAX)
        key = (client, event.number("id"))
        if event.name == "invoke":
            text, value = event.text("op"), event.text("value")
            if event.fields.get("value") and value not in text:
                text += f" {value}"
            operation = Operation(client, event.node, text, event.time)
            self.operations.append(operation)
            self._open[key] = operation
            if len(self._open) > THINGS_MAX:
                del self._open[next(iter(self._open))]
            return
        known = self._open.pop(key, None)
        if known is None:
            known = Operation(client, event.node, "called earlier", None)
            self.operations.append(known)
        known.returned, known.outcome, known.value = event.time, event.text("outcome", NAME_MAX), event.text("value")

    def _mark(self, event: Event) -> None:
        mark = Mark(event.node, event.time, event.name, event.rest())
        if event.name == "broken":
            mark.text = event.text("text", BROKEN_MAX)
            self.broken = mark
        self.marks.append(mark)

    def _process(self, lane: Lane, event: Event) -> None:
        """The process of a node ends, starts, halts or goes on."""
        if event.name in ("crash", "stop", "restart"):
            lane.up, lane.role, lane.commit = event.name == "restart", "follower", 0
        elif event.name == "pause" and lane.paused is None:
            lane.paused = Span(event.time, event.time, event.node, "paused", 0)
        if event.name in ("resume", "crash", "stop", "restart"):
            self._ended(lane.paused)
            lane.paused = None

    def _role(self, lane: Lane, event: Event) -> None:
        """A transition of the machine carries its role, term and commit index."""
        if "role" in event.fields:
            lane.role = event.text("role").lower()
            lane.term = event.number("term", lane.term)
        if "commit" in event.fields:
            commit = event.number("commit")
            if commit > lane.commit:
                self.commits.append(Commit(event.node, event.time, lane.commit + 1, commit))
            lane.commit = commit
        if (lane.span.state, lane.span.term) != (lane.state, lane.term):
            self._ended(lane.span)
            lane.span = Span(event.time, event.time, event.node, lane.state, lane.term)

    def _ended(self, span: Span | None) -> None:
        """Keep a span that ends now. Spans are kept when they end, so that a long one does not fall out early."""
        if span is not None:
            span.end = self.end
            self.spans.append(span)
