"""Two stages for SWIM nodes: one node alone, whose peers are played by the test, and a small network of real ones."""

import heapq
import itertools
import math
from random import Random

from distkit.membership.swim import Claim, Status, Swim, SwimOptions
from distkit.membership.swim.messages import Gossip


def place(name):
    """The address of a member."""
    return f"10.0.0.{name[1:]}:7946"


def alive(name, incarnation=1, metadata=b"", address=None):
    return Claim(Status.ALIVE, name, incarnation, "", address or place(name), metadata)


def suspect(name, accuser, incarnation=1):
    return Claim(Status.SUSPECT, name, incarnation, accuser, "", b"")


def dead(name, accuser, incarnation=1):
    return Claim(Status.DEAD, name, incarnation, accuser, "", b"")


def left(name, incarnation=1):
    return Claim(Status.LEFT, name, incarnation, name, "", b"")


class Lone:
    """The node n0, which knows n1 .. n(size - 1). Its news about itself are told and forgotten."""

    def __init__(self, size=5, seed=1, told=True, incarnation=1, metadata=b"", **options):
        self.now = 100.0
        self.options = SwimOptions(**options)
        self.swim = Swim(
            "n0",
            place("n0"),
            random=Random(seed),
            now=self.now,
            options=self.options,
            incarnation=incarnation,
            metadata=metadata,
            known=[alive(f"n{number}") for number in range(1, size)],
        )
        self.state = self.swim.state
        if told:
            self.state.broadcasts.drop("n0")
            self.state.gossip_deadline = math.inf
        self.events = []

    def receive(self, source, message):
        """A message of a member; what is sent at once."""
        self.swim.receive(self.now, place(source) if source[0] == "n" else source, message)
        return self.sent()

    def hear(self, *claims):
        """News, as if by gossip; the events they cause."""
        self.receive("n1", Gossip(claims))
        return self.taken()

    def sent(self):
        """What leaves now: (address, message)."""
        output = self.swim.flush(self.now)
        if output is None:
            return []
        self.events += output.events
        return list(output.sends)

    def taken(self):
        """Events since the last call."""
        self.sent()
        events, self.events = self.events, []
        return events

    def run(self, seconds):
        """Let time pass, tick by tick; everything that was sent: (time, address, message)."""
        until, sends = self.now + seconds, []
        while self.swim.deadline() <= until:
            self.now = max(self.now, self.swim.deadline())
            self.swim.tick(self.now)
            sends += [(self.now, *each) for each in self.sent()]
        self.now = until
        return sends

    def next(self, kind):
        """Let time pass until a message of this kind leaves: (address, message)."""
        for _ in range(1000):
            for each in self.sent():
                if type(each[1]) is kind:
                    return each
            self.now = max(self.now, self.swim.deadline())
            self.swim.tick(self.now)
        raise AssertionError(f"no {kind.__name__} left")

    def status(self, name):
        member = self.swim.member(name)
        return None if member is None else member.status


class World:
    """A network of nodes n0, n1 ... Messages take 1 to 5 ms; `lose(now, source, target, message)` loses some."""

    def __init__(self, size, seed=1, join=True, **options):
        self.random = Random(seed)
        self.now = 0.0
        self.options = SwimOptions(**options)
        self.queue = []
        self.order = itertools.count()
        self.swims = {}
        self.starts = itertools.count(1)
        self.events = []  # (time, node, event)
        self.sends = []  # (time, source, target, message)
        self.lose = lambda now, source, target, message: False
        self.stalled = {}  # name: until when nothing is read nor sent nor timed
        for number in range(size):
            self.start(f"n{number}", contact="n0" if join and number else None)

    def start(self, name, contact=None, incarnation=1, address=None, metadata=b""):
        """A new process with this name."""
        swim = Swim(
            name,
            address or place(name),
            random=Random(f"{self.random.random()} {next(self.starts)}"),
            now=self.now,
            options=self.options,
            incarnation=incarnation,
            metadata=metadata,
        )
        self.swims[name] = swim
        if contact:
            swim.join(self.now, [place(contact)])
        self.turn(name)

    def kill(self, *names):
        for name in names:
            del self.swims[name]

    def turn(self, name):
        """Take what a node has caused."""
        swim = self.swims[name]
        output = swim.flush(self.now)
        if output is not None:
            self.events += [(self.now, name, event) for event in output.events]
            for address, message in output.sends:
                self.sends.append((self.now, name, address, message))
                if not self.lose(self.now, name, address, message):
                    arriving = self.now + 0.001 + self.random.random() * 0.004
                    source = swim.state.address
                    heapq.heappush(self.queue, (arriving, next(self.order), address, source, message))
        due = swim.deadline()
        if due < math.inf:
            heapq.heappush(self.queue, (max(due, self.now), next(self.order), name, "", None))

    def run(self, seconds):
        until = self.now + seconds
        while self.queue and self.queue[0][0] <= until:
            time, _, target, source, message = heapq.heappop(self.queue)
            self.now = max(self.now, time)
            for name, swim in list(self.swims.items()):
                if target in (name, swim.state.address):
                    self.happen(name, swim, target, source, message)
        self.now = until

    def happen(self, name, swim, target, source, message):
        until = self.stalled.get(name, 0.0)
        if until > self.now:  # what was sent to it is read first when it goes on
            after = until if message is not None else until + 1e-6
            heapq.heappush(self.queue, (after, next(self.order), target, source, message))
            return
        if message is not None:
            swim.receive(self.now, source, message)
        elif swim.deadline() <= self.now:
            swim.tick(self.now)
        else:
            return
        self.turn(name)

    def of(self, kind, node=None):
        """Events of a kind: (time, node, name of the member)."""
        return [
            (time, name, event.member.name)
            for time, name, event in self.events
            if type(event) is kind and node in (None, name)
        ]

    def views(self):
        """What each node believes of live members: {node: {name: (status, incarnation)}}."""
        return {
            name: {
                member.name: (member.status, member.incarnation)
                for member in swim.members()
                if member.status <= Status.SUSPECT
            }
            for name, swim in self.swims.items()
        }
