"""Faults: what happens to nodes, links, disks and clocks, each at its time.

    crash     the process dies; `detail`: "" with the power, "kill" without, or at a point of its next work: "flushed"
              (before its writes are issued), "written" (within a write), "durable" (before what waited for it is
              sent), "sent"; with snapshots "fetching", "fetched" (within the write that begins the log with it),
              "loading", "giving" (to another), "given" (all of it); "boot": it dies once more while it starts again;
              "written KIND": within a write that has a record of this type, or begins a "segment" of the log
    pause     it stands still; `detail` "stale": between reading the clock and using it
    isolate   no link of the node works; "in", "out": one direction only; "two": it and the next node have each other
    cut       links "1>2 2>1" do not work
    clog      messages to the node are held back, then come at once
    hold      messages of one kind to or from the node are held back, and come when it ends: `detail` "in KIND", "out
              KIND", and after that perhaps the only peers that are meant; a restart or a cut does not lose them
    echo      they come, and come again and again;  mute: they never come
    reset     its connections break
    jump      its clock jumps ahead by `seconds`
    slow      its disk takes ten times as long;  stall: it stands still
    full      its disk has no more space, for a time
    error     a write fails with EIO;  badsync: a sync fails, and the pages are marked clean
    rot       it dies, and a bit of what was durable is flipped: found at the start, or harmless
    misplace  it dies, and a sector of its log is where another should be
    misdirect a write goes a few sectors too far, or nowhere, and says that all is well: found at a later start
    wipe      it dies, and comes back with an empty disk under the same id: it must be refused

All but reset, jump, wipe, rot and misplace are over after `seconds`.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from distkit.core import Space
from distkit.sim.chance import SECOND, below, stream
from distkit.sim.disks import RecordDisk, WalDisk
from distkit.sim.files import SECTOR_BYTES, Crashed, MemoryFiles
from distkit.sim.network import Grip, Link
from distkit.sim.scenario import Fault

if TYPE_CHECKING:
    from random import Random

    from distkit.sim.host import Host
    from distkit.sim.world import World

#: Faults after which a node may never come back; together they may strike less than half of the nodes.
LOSING: Final = ("rot", "misplace", "misdirect", "wipe")


class Faults:
    """Strikes with what the scenario says, and heals at the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.healed = False
        self._cuts: Counter[Link] = Counter()
        self._slowed: Counter[int] = Counter()

    def strike(self, fault: Fault) -> None:
        """The time of a fault, or of its end, has come."""
        if self.healed:
            return
        node = fault.node or self.world.oracle.leader() or 1
        host = self.world.hosts[node]
        self.world.tell("fault", node, kind=fault.kind, seconds=fault.seconds, detail=fault.detail)
        getattr(self, f"_{fault.kind}")(host, fault)

    def heal(self) -> None:
        """Everything works from here on; every node that may comes back."""
        world = self.world
        self.healed = True
        self._cuts.clear()
        self._slowed.clear()
        world.network.heal()
        world.tell("heal", 0, links=[])
        for host in world.hosts.values():
            host.slow, host.die_at = 1.0, ""
            host.go_on()
            self._give_space(host)
            files = _files(host)
            if files is not None:
                files.calm()
            host.resume()
            self._start(host)
        world.links_changed()

    def _chance(self, fault: Fault) -> Random:
        """What is drawn while it strikes: of its own, so that one fault less leaves the others as they are."""
        return stream(self.world.seed, f"fault {fault.kind} {fault.time} {fault.node}")

    def _over(self, host: Host, fault: Fault, kind: str) -> None:
        """`kind` ends what this fault began."""
        end = replace(fault, kind=kind, node=host.id)
        self.world.timeline.after(int(fault.seconds * SECOND), self.world.FAULT, host.id, end)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _crash(self, host: Host, fault: Fault) -> None:
        if not host.up:
            return
        if fault.detail in ("", "kill", "boot"):
            host.crash(power=fault.detail != "kill")
        else:
            host.die_at = fault.detail
        self._over(host, fault, "restart")

    def _restart(self, host: Host, fault: Fault) -> None:
        if host.up and host.die_at:  # it had nothing to do since
            host.die_at = ""
            host.crash(power=True)
        files = _files(host)
        if fault.detail == "boot" and files is not None and not host.up and not host.barred:
            self._start_and_die(host, fault, files)
        self._start(host)

    def _start_and_die(self, host: Host, fault: Fault, files: MemoryFiles) -> None:
        """The power fails while the node reads its log."""
        files.crash_at(1 + below(self._chance(fault), 40))
        try:
            host.start()
        except Crashed:
            self.world.marks["a crash came while a node started"] += 1
            host.crash(power=True)
        files.calm()

    def _start(self, host: Host) -> None:
        if not host.up and not host.barred:
            host.start()
            self.world.process_came(host)

    def _pause(self, host: Host, fault: Fault) -> None:
        host.pause(fault.detail == "stale")
        self._over(host, fault, "resume")

    def _resume(self, host: Host, fault: Fault) -> None:
        host.resume()

    # -- the network --------------------------------------------------------------------------------------------------

    def _isolate(self, host: Host, fault: Fault) -> None:
        nodes = len(self.world.hosts)
        side = (host.id, host.id % nodes + 1) if fault.detail == "two" else (host.id,)
        pairs = [(one, other) for one in side for other in self.world.hosts if other not in side]
        links = pairs if fault.detail != "in" else []
        links = links + [(other, one) for one, other in pairs if fault.detail != "out"]
        detail = " ".join(f"{source}>{target}" for source, target in links)
        self._cut(host, replace(fault, detail=detail))

    def _cut(self, host: Host, fault: Fault) -> None:
        links = _links(fault.detail)
        self._cuts.update(links)
        self.world.network.cut.update(links)
        self.world.tell("cut", 0, links=[list(link) for link in links])
        self.world.links_changed()
        self._over(host, fault, "uncut")

    def _uncut(self, host: Host, fault: Fault) -> None:
        links = _links(fault.detail)
        self._cuts.subtract(links)
        whole = [link for link in links if self._cuts[link] <= 0]
        self.world.network.cut.difference_update(whole)
        self.world.tell("heal", 0, links=[list(link) for link in whole])
        self.world.links_changed()

    def _clog(self, host: Host, fault: Fault) -> None:
        clogged = self.world.network.clogged
        until = self.world.timeline.now + int(fault.seconds * SECOND)
        for other in self.world.hosts:
            if other != host.id:
                clogged[other, host.id] = max(until, clogged.get((other, host.id), 0))
        self._over(host, fault, "unclog")

    def _unclog(self, host: Host, fault: Fault) -> None:
        now = self.world.timeline.now
        clogged = self.world.network.clogged
        for link in [link for link, until in clogged.items() if until <= now]:
            del clogged[link]

    def _hold(self, host: Host, fault: Fault) -> None:
        way, kind, *peers = fault.detail.split()
        others = map(int, peers) if peers else self.world.hosts
        links = [(other, host.id) if way == "in" else (host.id, other) for other in others]
        until = self.world.timeline.now + int(fault.seconds * SECOND)
        chance = self._chance(fault)
        self.world.network.grips.append(Grip(fault.kind, kind, frozenset(links), until, chance))
        self._over(host, fault, "release")

    _echo = _mute = _hold

    def _release(self, host: Host, fault: Fault) -> None:
        now = self.world.timeline.now
        self.world.network.grips[:] = [grip for grip in self.world.network.grips if grip.until > now]

    def _reset(self, host: Host, fault: Fault) -> None:
        for other in self.world.hosts:
            if other != host.id:
                self.world.reset(host.id, other)

    # -- clocks and disks ---------------------------------------------------------------------------------------------

    def _jump(self, host: Host, fault: Fault) -> None:
        if host.up:
            self.world.marks["a clock jumped"] += 1
            host.jump(fault.seconds)

    def _slow(self, host: Host, fault: Fault) -> None:
        self._slowed[host.id] += 1
        host.slow = 10.0
        self._over(host, fault, "quick")

    def _quick(self, host: Host, fault: Fault) -> None:
        self._slowed[host.id] -= 1
        if self._slowed[host.id] <= 0:
            host.slow = 1.0

    def _stall(self, host: Host, fault: Fault) -> None:
        host.stall(self.world.timeline.now + int(fault.seconds * SECOND))

    def _full(self, host: Host, fault: Fault) -> None:
        disk = host.disk
        if isinstance(disk, WalDisk):
            disk.files.space_bytes = disk.files.used() + below(self._chance(fault), 1 << 15)
        elif isinstance(disk, RecordDisk):
            disk.space = Space.FULL
            host.tell_space()
        self._over(host, fault, "space")

    def _space(self, host: Host, fault: Fault) -> None:
        self._give_space(host)
        if host.starved:
            self._start(host)

    def _give_space(self, host: Host) -> None:
        disk = host.disk
        if isinstance(disk, WalDisk):
            disk.files.space_bytes = None
        elif isinstance(disk, RecordDisk):
            disk.space = Space.OK
            host.tell_space()

    def _error(self, host: Host, fault: Fault) -> None:
        files = _files(host)
        if files is not None and host.up:
            self.world.marks["a write failed"] += 1
            host.failing = True
            files.fail("pwritev", 1 + below(self._chance(fault), 4), OSError(errno.EIO, "injected"))
        self._over(host, fault, "restart")

    def _badsync(self, host: Host, fault: Fault) -> None:
        files = _files(host)
        if files is not None and host.up:
            self.world.marks["a sync failed and marked its pages clean"] += 1
            host.failing = True
            files.fail_sync(1 + below(self._chance(fault), 4))
        self._over(host, fault, "restart")

    # -- what a node may not survive ----------------------------------------------------------------------------------

    def _rot(self, host: Host, fault: Fault) -> None:
        files = _files(host)
        if files is not None and not host.barred:
            host.crash(power=True)
            host.rotten = True
            chance = self._chance(fault)
            names = [name for name in files.listdir() if files.read(name)]
            name = names[below(chance, len(names))]
            files.flip(name, below(chance, 8 * len(files.read(name))))
            self._try(host)

    def _misplace(self, host: Host, fault: Fault) -> None:
        files = _files(host)
        if files is not None and not host.barred:
            host.crash(power=True)
            host.rotten = True
            name = [name for name in files.listdir() if name.startswith("wal")][-1]
            data, chance = bytearray(files.read(name)), self._chance(fault)
            source, target = (SECTOR_BYTES * below(chance, len(data) // SECTOR_BYTES) for _ in range(2))
            data[target : target + SECTOR_BYTES] = data[source : source + SECTOR_BYTES]
            files.replace(name, bytes(data))
            self._try(host)

    def _misdirect(self, host: Host, fault: Fault) -> None:
        files = _files(host)
        if files is not None and host.up:
            host.rotten = True
            self.world.marks["a write went astray"] += 1
            chance = self._chance(fault)
            files.misdirect(1 + below(chance, 4), below(chance, 3))

    def _try(self, host: Host) -> None:
        """Start on a damaged disk. If it starts, the oracle has compared what it found with what was durable."""
        host.start()
        if host.up:
            self.world.marks["damage was harmless"] += 1
            self.world.process_came(host)

    def _wipe(self, host: Host, fault: Fault) -> None:
        """An empty disk under the same id. Both ends must refuse, by the same code that nodes use."""
        if host.barred:
            return
        host.crash(power=True)
        host.barred = "its disk was wiped"
        self.world.system.wiped(self.world, host)


def _links(detail: str) -> list[Link]:
    return [(int(source), int(target)) for source, target in (link.split(">") for link in detail.split())]


def _files(host: Host) -> MemoryFiles | None:
    return host.disk.files if isinstance(host.disk, WalDisk) else None
