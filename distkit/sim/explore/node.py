"""One node of an explored cluster: a real machine, its disk, what it has ever sent, and what is known of its past."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from distkit.core import Write
from distkit.sim.broken import Broken, require

if TYPE_CHECKING:
    from distkit.sim.explore.subject import Subject

#: An armed timer, and one that is due now.
ARMED: Final = 1.0
DUE: Final = 0.0


class Node:
    """A host in its simplest form: it flushes after each input, and its clock stands still.

    `ledger` has the methods of `distkit.sim.synod_ledger.Ledger` and judges each step by the node's own past.
    """

    __slots__ = ("boots", "decided", "disk", "id", "ledger", "machine", "sent", "subject", "writes")

    def __init__(self, subject: Subject, node: int) -> None:
        self.subject = subject
        self.id = node
        self.boots = 0
        self.disk: list[Any] = list(subject.formation(node))
        self.sent: set[tuple[int, Any]] = set()
        self.ledger = subject.ledger(node)
        self.decided: Any = None
        self.start()

    def recovered(self, records: Iterable[Any]) -> Any:
        """A machine made of these records."""
        try:
            return self.subject.recover(self, tuple(records))
        except Exception as error:
            raise Broken("errors", f"node {self.id} can't start: {error!r}") from error

    # -- moves --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life with what is durable."""
        self.boots += 1
        self.writes: list[Write] = []
        self.decided = None
        self.machine = self.recovered(self.disk)
        self.ledger.restarted(self)
        self._flush(0.0)

    def crash(self, keep: int) -> None:
        """The process dies and starts again. Of the records in flight, the first `keep` reached the disk."""
        records = [record for write in self.writes for record in write.records][:keep]
        self.disk = self.subject.compacted(self.disk + records)
        self.ledger.crashed(self, records)
        self.start()

    def receive(self, now: float, source: int, message: Any) -> None:
        """A message arrives."""
        self._call("receive", now, source, message)
        self._flush(now)

    def complete(self, count: int, now: float = 0.0) -> None:
        """The oldest `count` writes are durable, and the disk reports the last one."""
        done, self.writes = self.writes[:count], self.writes[count:]
        for write in done:
            self.disk = self.subject.compacted(self.disk + list(write.records))
            self.ledger.completed(self, write)
            for target, message in write.then:
                self._send(target, message)
        self._call("persisted", now, done[-1].token)
        self._flush(now)

    def tick(self, timer: str) -> None:
        """This timer, and no other one, is due."""
        setattr(self.machine.state, timer, DUE)
        self._call("tick", 0.0)
        self._flush(0.0)

    def call(self, verb: str, arguments: tuple[Any, ...]) -> None:
        """The application uses a verb."""
        self._call(verb, 0.0, *arguments)
        self._flush(0.0)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _call(self, door: str, now: float, *arguments: Any) -> Any:
        """Use a door of the machine, which raises nothing as long as the caller keeps the contract."""
        try:
            result = getattr(self.machine, door)(now, *arguments)
        except Exception as error:
            raise Broken("errors", f"node {self.id}: {door}{arguments} raised {error!r}") from error
        self.ledger.stepped(self)
        return result

    def _flush(self, now: float) -> None:
        output = self._call("flush", now)
        if output is not None:
            require(len(output.writes) <= 1, "contract", "two writes in one flush of node", self.id)
            for write in output.writes:
                self.ledger.wrote(self, write)
                self.writes.append(write)
            for delivered in output.delivers:
                self.subject.delivered(self, delivered)
            for reply in output.replies:
                self.ledger.replied(self, reply)
            for target, message in output.sends:
                self._send(target, message)
        if self.writes and not self.writes[0].records:
            self.complete(1, now)  # without records there is nothing to wait for
        self.subject.settle(self)

    def _send(self, target: int, message: Any) -> None:
        self.ledger.left(self, target, message)
        if self.subject.carries(message):
            self.sent.add((target, message))
