"""A host: one node's process, clock and disk, driving one machine as `distkit.core.machine` says.

The rules that drivers break in practice are each in one method here, so that a mutant can break one: `_hand_over` (what
waits for the disk), `complete` (when a write counts), `_now` (when the clock is read), `start` (what is remembered).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final

from distkit.core import DistkitError, LocalError, Space, StorageError, Write
from distkit.sim.broken import Broken
from distkit.sim.chance import SECOND, between, exponential, stream
from distkit.sim.disks import Disk
from distkit.sim.timeline import NodeClock

if TYPE_CHECKING:
    from distkit.sim.world import World

#: Ticks in a row, at one instant or for one deadline, before that counts as an endless loop.
_TICKS_MAX: Final = 100
#: A full disk is asked for space again after this time, and an idle log proves its last sync.
CLAIM_INTERVAL: Final = SECOND
IDLE: Final = SECOND // 50
_NEVER: Final = 1 << 63
#: Flushes that wait for more input do so at most this long.
_FLUSH_DELAY: Final = SECOND // 1000


class Host:
    """Node `id` of a world. `guest` is what runs on it while `up`."""

    def __init__(self, world: World, node: int, incarnation: int, disk: Disk) -> None:
        self.world = world
        self.id = node
        self.incarnation = incarnation
        self.disk = disk
        self.up = False
        self.paused = False
        self.barred = ""  #: why it must never run again: its disk lost what others rely on
        self.rotten = False  #: its disk was damaged on purpose
        self.failing = False  #: its disk fails on purpose, until the next start
        self.starved = False  #: there was too little space to start
        self.boots = 0
        self.slow = 1.0  #: its disk takes so many times as long
        self._stalled_until = 0
        self._done_at = _NEVER  # when the batch under way is on the disk
        self.peers: dict[int, int] = {}  #: with whom it believes to be connected, and which start of theirs that is
        self.die_at = ""  #: crash at this point, the next time that it is reached, see `distkit.sim.faults`
        self.guest: Any = None
        self.machine: Any = None
        self._chance = stream(world.seed, f"host {node}")
        self._eager = world.scenario.eager
        self._clock = NodeClock(0.0, 1.0, 0)
        self._wall_offset = 0
        self._space = Space.OK  # as the machine was told
        self._held: list[Callable[[], None]] = []  # inputs of a paused process
        self._stale: float | None = None  # the clock was read, then came the pause
        self._timer = 0  # when the next TIMER event comes, 0: none is under way
        self._due = inf  # the deadline that it is for
        self._flushing = False  # a FLUSH event is under way
        self._ticks = self._ticked_at = 0  # ticks in a row that left things as they were, and when the last one came
        self._ticked = -inf  # the deadline that it was for

    # -- the process --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start from what the disk holds. A disk that can't be read bars the node for good."""
        world = self.world
        random = self._chance
        self.boots += 1
        self.up, self.paused = True, False
        self.failing = False
        self._held, self._stale = [], None
        self._timer = 0
        self._flushing = False
        self._space = Space.OK
        options = world.scenario.clock
        drift = between(random, -options.drift, options.drift)
        # Each start's clock begins anywhere: what was stored or sent of an earlier one means nothing.
        self._clock = NodeClock(float(int(between(random, 1, 1_000_000))), 1.0 + drift, world.timeline.now)
        self._wall_offset = int(between(random, -options.wall, options.wall) * 1e6)
        try:
            records = self.disk.boot()
            self.guest = world.system.boot(self, records, self._now())
        except LocalError:
            raise  # the options or the application are at fault, not the disk
        except DistkitError as error:
            self.starved = self.disk.full
            self.stop(f"can't start: {error}", damaged=not self.starved)
            return
        self.starved = False
        self.machine = self.guest.machine
        world.oracle.booted(self, records)
        world.tell("restart", self.id, boot=self.boots)
        self.read_wall()
        self.flush()

    def crash(self, power: bool) -> None:
        """The process is gone, and all that was not on the disk; with `power` the disk loses what it was writing."""
        if not self.up:
            return
        self.up = False
        world = self.world
        self.disk.lose(self._chance if power else None)
        self.die_at = ""
        self._done_at = _NEVER
        self.peers.clear()
        guest, self.guest, self.machine = self.guest, None, None
        world.oracle.crashed(self)
        world.tell("crash", self.id, reason="power" if power else "killed")
        world.system.gone(self, guest)
        world.process_gone(self, reset=not power)

    def _die(self, mark: str) -> None:
        """Crash at the point that a fault asked for."""
        self.world.marks[mark] += 1
        self.crash(power=True)

    def stop(self, reason: str, *, damaged: bool = False) -> None:
        """The node ends itself: it can't go on. `damaged`: it will not come back either."""
        self.world.tell("stop", self.id, reason=reason)
        if damaged:
            self.world.damaged(self, reason)
        elif not (self.failing or self.rotten or self.disk.full):
            raise Broken("disk", f"node {self.id} ends itself, but nothing was done to its disk: {reason}")
        self.crash(power=False)

    def pause(self, stale: bool) -> None:
        """The process stands still; `stale`: between reading the clock and using what was read."""
        if self.up and not self.paused:
            self.paused = True
            self._stale = self._now() if stale else None
            self.world.tell("pause", self.id)

    def resume(self) -> None:
        """Everything that came meanwhile comes now, at once."""
        if not self.up or not self.paused:
            return
        self.paused = False
        self.world.resumed(self)
        held, self._held = self._held, []
        boot = self.boots
        for each in held:
            if self.up and self.boots == boot:
                each()
        if self.up and self.boots == boot:
            self.wake()

    def awake(self, work: Callable[[], None]) -> None:
        """Do something in the process, when it goes on if it stands still."""
        if self.paused:
            self._held.append(work)
        else:
            work()

    def jump(self, seconds: float) -> None:
        """Its clock jumps ahead; the wall clock jumps anywhere."""
        self._clock.jump(seconds)
        self._wall_offset += int(between(self._chance, -seconds, seconds) * 1e6)
        self._timer = 0
        self._rearm()

    # -- inputs -------------------------------------------------------------------------------------------------------

    def call(self, door: str, *arguments: Any) -> Any:
        """Use a door of the machine now. Errors that the project raises on purpose are findings here."""
        try:
            return getattr(self.machine, door)(self._now(), *arguments)
        except Broken:
            raise  # whoever watches the machine has judged it
        except DistkitError as error:
            raise _raised(self, door, error) from error

    def input(self, door: str, *arguments: Any) -> None:
        """The same, and flush now or soon; a paused process gets it later, one that is down never."""
        if not self.up:
            return
        if self.paused:
            self._held.append(lambda: self.input(door, *arguments))
            return
        self.call(door, *arguments)
        self.touched()

    def receive(self, source: int, message: Any) -> None:
        """A message arrived."""
        if not self.up:
            return
        if self.paused:
            self._held.append(lambda: self.receive(source, message))
            return
        try:
            self.machine.receive(self._now(), source, message)
        except Broken:
            raise  # whoever watches the machine has judged it
        except DistkitError as error:
            raise _raised(self, "receive", error) from error
        self.touched()

    def touched(self) -> None:
        """Something came in: flush now, or let it share a flush with what comes next."""
        if self._flushing:
            return
        if self._eager >= 1.0 or self._chance.random() < self._eager:
            self.flush()
        else:
            self._flushing = True
            delay = int(self._chance.random() * _FLUSH_DELAY)
            self.world.timeline.after(delay, self.world.FLUSH, self.id, self.boots)

    def late_flush(self, boot: int) -> None:
        """The flush that `touched` put off."""
        if boot == self.boots and self.up:
            self._flushing = False
            if self.paused:
                self._held.append(self.flush)
            else:
                self.flush()

    def timer(self, boot: int) -> None:
        """A deadline may have passed."""
        if boot == self.boots and self.up and self._timer == self.world.timeline.now:
            self._timer = 0
            self.wake()

    def wake(self) -> None:
        """Tick, if something is due."""
        if self.paused or not self.up:
            return
        due = self.machine.deadline()
        if due <= self._now():
            now = self.world.timeline.now
            self._ticks = self._ticks + 1 if now == self._ticked_at or due == self._ticked else 0
            self._ticked_at, self._ticked = now, due
            if self._ticks > _TICKS_MAX:
                raise Broken("progress", f"node {self.id}: a tick leaves its deadline in the past, again and again")
            self.call("tick")
            self.touched()  # which rearms
        elif not self._flushing:
            self._arm(due)

    # -- outputs ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Take what the machine has caused."""
        try:
            output = self.machine.flush(self._now())
        except Broken:
            raise  # whoever watches the machine has judged it
        except DistkitError as error:
            raise _raised(self, "flush", error) from error
        world = self.world
        if output is not None:
            world.oracle.flushed(self, output)
            for target, message in output.sends:
                world.oracle.left(self, target, message, held=False)
                world.send(self, target, message)
            if self.die_at == "flushed":
                return self._die("a crash came between a flush and its write")
            boot = self.boots
            for write in output.writes:
                self._hand_over(write)
            if self.up and self.boots == boot:
                self.guest.take(output)
            if not self.up or self.boots != boot:
                return None
        else:
            world.oracle.seen(self)
        self._rearm()
        return None

    def _hand_over(self, write: Write) -> None:
        """A write goes to the disk; its messages wait for it."""
        self.disk.submit(write)
        self.start_disk()

    def start_disk(self) -> None:
        """Let the disk begin on what waits for it."""
        try:
            if not self.disk.begin():
                return self.tell_space()  # it may have found no room for what comes next
        except StorageError as error:
            return self.stop(str(error))
        options = self.world.scenario.disk
        delay = options.delay_min + exponential(self._chance, options.delay_mean)
        now = self.world.timeline.now
        self._done(max(now, self._stalled_until) + int(delay * self.slow))
        return None

    def _done(self, time: int) -> None:
        """The batch under way will be done then."""
        self._done_at = time
        self.world.timeline.at(time, self.world.DISK, self.id, self.boots)

    def stall(self, until: int) -> None:
        """The disk stands still, and what is under way takes so much longer."""
        before = max(self._stalled_until, self.world.timeline.now)
        if until > before:
            self._stalled_until = until
            if self._done_at != _NEVER:
                self._done(self._done_at + until - before)

    def go_on(self) -> None:
        """The disk stands still no more."""
        self._stalled_until = 0
        if self._done_at != _NEVER:
            self._done(self.world.timeline.now)

    def disk_done(self, boot: int) -> None:
        """The batch is on the disk."""
        if boot != self.boots or not self.up or self.world.timeline.now < self._done_at:
            return None  # of a process that is gone, or before a stall
        if self.die_at == "written" or (self.die_at[:8] == "written " and self.disk.writes(self.die_at[8:])):
            return self._die("a crash came within a write")
        if self.paused:
            self._held.append(lambda: self.disk_done(boot))
            return None
        self._done_at = _NEVER
        try:
            done = self.disk.complete()
        except StorageError as error:
            return self.stop(str(error))
        if self.die_at == "durable":
            self.world.oracle.durable(self, done)
            return self._die("a crash came between a write and its messages")
        for write in done:
            self.world.oracle.durable(self, (write,))
            self._release(write)
        if self.die_at == "sent":
            return self._die("a crash came between the messages of a write and its end")
        self.call("persisted", done[-1].token)
        self.touched()
        if self.up and self.boots == boot:
            self.start_disk()
            self.tell_space()
            self.world.disk_rests(self)
        return None

    def _release(self, write: Write) -> None:
        """What waited for this write leaves."""
        world = self.world
        for target, message in write.then:
            world.oracle.left(self, target, message, held=True)
            world.send(self, target, message)

    def tell_space(self) -> None:
        """The disk may be full, or have space again: ask it for more from time to time."""
        space = self.disk.space
        if self.up and space is not self._space:
            self._space = space
            self.input("storage", space)
            if space is Space.OK:
                self.world.marks["a disk was full, and had space again"] += 1
            else:
                self.world.timeline.after(CLAIM_INTERVAL, self.world.CLAIM, self.id, self.boots)

    def claim(self, boot: int) -> None:
        """Ask a full disk for space again."""
        if boot != self.boots or not self.up:
            return None
        try:
            self.disk.claim()
        except StorageError as error:
            return self.stop(str(error))
        self.start_disk()
        if self.up and self.disk.space is Space.FULL:  # or full again: what waits needs more than was claimed
            self.world.timeline.after(CLAIM_INTERVAL, self.world.CLAIM, self.id, boot)
        self.tell_space()
        return None

    def rest(self, boot: int) -> None:
        """Nothing was written for a while."""
        if boot == self.boots and self.up:
            try:
                self.disk.idle()
            except StorageError as error:
                self.stop(str(error))

    # -- time ---------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """The clock, read now; or, once after a pause, what it showed before."""
        if self._stale is not None:
            now, self._stale = self._stale, None
            return now
        return self._clock.read(self.world.timeline.now)

    def read_wall(self) -> None:
        """Tell the machine the wall clock."""
        if self.up and not self.paused and hasattr(self.machine, "wall"):
            self.call("wall", self.world.EPOCH_US + self.world.timeline.now // 1000 + self._wall_offset)

    def _rearm(self) -> None:
        """See to it that `wake` is called when the deadline has passed, somewhat late perhaps."""
        if self.up and not self.paused and not self._flushing:  # else the flush will do it
            self._arm(self.machine.deadline())

    def _arm(self, due: float) -> None:
        if due == self._due and self._timer:
            return
        self._due = due
        if due == inf:
            return
        world = self.world
        late = world.scenario.clock.late
        time = max(world.timeline.now, self._clock.when(due))
        if late:
            time += int(self._chance.random() * late)
        if not self._timer or time < self._timer:
            self._timer = time
            world.timeline.at(time, world.TIMER, self.id, self.boots)


def _raised(host: Host, door: str, error: DistkitError) -> Broken:
    """An error that the project raises on purpose came out of a machine: the caller kept the contract, so it did
    not."""
    return Broken("errors", f"node {host.id}: {door} raised {type(error).__name__}: {error}")
