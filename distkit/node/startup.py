"""From a directory to a running machine: who this is, what its log holds, and the formation of a new cluster."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import cast

from distkit.core import Files, IdentityError, StateMachine
from distkit.core.ids import Configuration
from distkit.log import SnapshotReader, Wal, WalIdentity, list_snapshots, open_identity
from distkit.log.identity import Identity
from distkit.node.options import NodeOptions
from distkit.raft import Snapshot, formation_records, recover
from distkit.replica import (
    Formation,
    Formed,
    ReplicaCore,
    Waiting,
    decoded,
    encoded,
    judge_hello,
)
from distkit.storage import DiskFiles
from distkit.transport import Hello, Refusal, RefusalCode

logger = logging.getLogger(__name__)


class Directory:
    """The data directory of a node, locked: its identity, its files and, once the cluster is formed, its log.

    IdentityError: the directory is in use, belongs to another node, or is of a newer format. StorageError: damage.
    """

    def __init__(self, data: str | Path | Files, node: int, members: Mapping[int, str], options: NodeOptions) -> None:
        self.members = dict(sorted(members.items()))
        self.options = options
        self._disk = DiskFiles(data) if isinstance(data, str | Path) else None
        self.files: Files = self._disk or cast(Files, data)
        try:
            self.identity: Identity = open_identity(self.files, node, secrets.randbits(63) + 1)
        except BaseException:
            self._close_disk()
            raise
        self.configuration: Configuration | None = None
        self.cluster = 0
        self.wal: Wal | None = None
        self.formation: Formation | None = None
        #: Why this node can't be part of the cluster that it was started for.
        self.rejected: IdentityError | None = None

    def recover(self, application: StateMachine, now: float) -> ReplicaCore | None:
        """The replica as its log left it, the snapshot loaded; None if the directory is not part of a cluster yet."""
        identity = self.identity
        if not Wal.exists(self.files):
            self.formation = Formation(identity.node, identity.incarnation, self.members)
            return None
        expected = WalIdentity(identity.cluster, identity.node, identity.incarnation)
        self.wal, recovered = Wal.open(self.files, expected, self.options.log)
        self.cluster = recovered.identity.cluster
        if identity.cluster == 0:
            identity.formed(self.cluster)
        core = self._core(decoded(recovered.records), application, now)
        known = {member.id for member in core.raft.configuration.members}
        if known != set(self.members):
            raise IdentityError(
                f"this directory belongs to a cluster with the members {sorted(known)}, but was started with "
                f"{sorted(self.members)}: start it with the members it was formed with"
            )
        snapshot = core.raft.snapshot
        if snapshot.index > 0:
            self.load(core, snapshot)
            core.restored(now, snapshot)
        logger.info(
            "node %d recovered: term %d, log to %d, snapshot at %d, %d bytes of a torn tail left behind",
            identity.node,
            core.raft.term,
            core.raft.last_index,
            snapshot.index,
            recovered.torn_bytes,
        )
        return core

    def form(self, formed: Formed, application: StateMachine, now: float) -> ReplicaCore:
        """Make the first log: from here on this directory belongs to the cluster."""
        identity = self.identity
        self.cluster = formed.cluster
        records = formation_records(formed.configuration)
        self.wal = Wal.create(
            self.files,
            WalIdentity(formed.cluster, identity.node, identity.incarnation),
            encoded(records),
            self.options.log,
        )
        identity.formed(formed.cluster)
        self.formation = None
        logger.info("node %d is part of cluster %016x", identity.node, formed.cluster)
        return self._core(list(records), application, now)

    def load(self, core: ReplicaCore, snapshot: Snapshot) -> None:
        """Give the application the chunks of a snapshot file; may run in a thread while the core is `loading`."""
        names = {(index, term): name for index, term, name in list_snapshots(self.files)}
        name = names.get((snapshot.index, snapshot.term))
        if name is None:
            raise IdentityError(
                f"the log begins after snapshot {snapshot.index}, whose file is missing: restore the file from a "
                "backup of this directory, or replace the member"
            )
        with SnapshotReader(self.files, name) as reader:
            core.load(reader)

    def hello(self) -> Hello:
        """Who this node is at the moment."""
        identity = self.identity
        members = tuple(self.members.items())
        return Hello(self.cluster, identity.node, identity.incarnation, identity.boot, self.configuration, members)

    def judge(self, hello: Hello) -> Refusal | None:
        """Refuse who is of another cluster, or a wiped member; while forming, also who was started differently."""
        try:
            if self.formation is not None:
                self.formation.hello(hello)
            elif self.configuration is not None:
                judge_hello(self.identity.node, self.configuration, self.cluster, hello)
        except IdentityError as error:
            if self.formation is not None and hello.configuration is not None:
                self.rejected = error  # the cluster exists, and this directory is not part of it
            wiped = hello.cluster in (0, self.cluster)
            return Refusal(RefusalCode.WIPED_MEMBER if wiped else RefusalCode.WRONG_CLUSTER, str(error))
        return None

    def formed(self) -> Formed | None:
        """What was formed, if every member has been seen."""
        state = None if self.formation is None else self.formation.state()
        return state if isinstance(state, Formed) else None

    def missing(self) -> tuple[int, ...]:
        """Members that have not been seen yet."""
        state = None if self.formation is None else self.formation.state()
        return state.missing if isinstance(state, Waiting) else ()

    def close(self) -> None:
        """Give the directory back. The log was closed by its worker, if it had one."""
        self.identity.close()
        self._close_disk()

    def _close_disk(self) -> None:
        if self._disk is not None:
            self._disk.close()

    def _core(self, records: list[object], application: StateMachine, now: float) -> ReplicaCore:
        identity = self.identity
        machine = recover(
            records,
            node=identity.node,
            incarnation=identity.incarnation,
            random=Random(secrets.randbits(256)),
            now=now,
            options=self.options.raft,
        )
        self.configuration = machine.configuration
        return ReplicaCore(machine, application, self.options.replica, now=now, origin=secrets.randbits(63))
