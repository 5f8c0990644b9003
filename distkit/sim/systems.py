"""What a world needs to know of the protocol that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from distkit.codec import FrameDecoder, Registry
from distkit.core import PeerError, Write
from distkit.sim.linear import Operation
from distkit.sim.scenario import Scenario
from distkit.sim.workload import Workload

if TYPE_CHECKING:
    from distkit.sim.host import Host
    from distkit.sim.world import World


class Guest(Protocol):
    """What runs on a host. `machine` has the doors of `distkit.core.machine`."""

    machine: Any

    def take(self, output: Any) -> None:
        """Take what a flush gave, but for sends and writes: replies, what is delivered."""
        ...

    def digest(self) -> bytes:
        """The state, for the digest of the run."""
        ...


class Oracle(Protocol):
    """Judges a run: raises Broken at the step that breaks a rule."""

    def booted(self, host: Host, records: Iterable[Any]) -> None: ...
    def crashed(self, host: Host) -> None: ...
    def flushed(self, host: Host, output: Any) -> None:
        """A flush gave something; nothing of it has left yet."""
        ...

    def seen(self, host: Host) -> None:
        """A flush gave nothing."""
        ...

    def left(self, host: Host, target: int, message: Any, held: bool) -> None:
        """A message leaves; `held`: it waited for a write."""
        ...

    def durable(self, host: Host, done: Iterable[Write]) -> None:
        """Writes are on the disk; their messages have not left yet."""
        ...

    def leader(self) -> int:
        """The node that leads, 0: none. Faults and calls may ask for it."""
        ...

    def led(self, host: Host) -> bool:
        """Whether the node believes to lead."""
        ...

    def settled(self) -> str:
        """What is not at rest yet, after everything healed; "" if nothing."""
        ...

    def finish(self) -> None:
        """The end, after `settled`: what only the end can show."""
        ...


class Callers(Protocol):
    """The clients of a world."""

    history: list[Operation]
    acknowledged: int  #: calls that were answered
    unknown: int  #: calls that ended without an answer
    refused: int  #: calls that were definitely not done

    def event(self, what: Any) -> None:
        """A call of the scenario falls due, or what was put into the timeline as CLIENT."""
        ...

    def stop(self) -> None:
        """What was not begun is not called any more."""
        ...

    def last(self) -> int:
        """After everything healed: make calls that must be answered. How many they are."""
        ...

    def finish(self) -> None:
        """The end of the run."""
        ...


class System(Protocol):
    """A kind of node."""

    registry: Registry
    workload: Callable[[], Workload]

    def options(self, random: Random, tiny: bool) -> tuple[tuple[str, float], ...]:
        """The machine options of a drawn scenario; `tiny` ones make every mechanism take part."""
        ...

    def aim(self, random: Random, scenario: Scenario) -> Scenario:
        """A drawn scenario with its calls and faults moved to where they matter to this kind of node."""
        ...

    def host(self, world: World, node: int) -> Host:
        """A host with the disk of a new node."""
        ...

    def oracle(self, world: World) -> Any:
        """An Oracle."""
        ...

    def clients(self, world: World) -> Any:
        """Callers."""
        ...

    def boot(self, host: Host, records: list[Any], now: float) -> Any:
        """A Guest: the machine that its durable records amount to."""
        ...

    def gone(self, host: Host, guest: Any) -> None:
        """The process of this guest died: whoever waited for it knows nothing."""
        ...

    def wiped(self, world: World, host: Host) -> None:
        """The disk of this host is empty now. Broken, unless its peers would refuse it."""
        ...

    def decode(self, data: bytes) -> Any:
        """The message of one frame. PeerError: it is damaged."""
        ...

    def described(self, message: Any) -> dict[str, Any]:
        """What the trace says of a message: message, term, detail."""
        ...


def frame(registry: Registry, data: bytes) -> Any:
    """The message of one frame. PeerError: it is damaged."""
    decoder = FrameDecoder(registry)
    decoder.feed(data)
    messages = [message for _, message in decoder]
    if len(messages) != 1:
        raise PeerError("the length of a frame is wrong")  # on a stream, the next one would show it
    return messages[0]
