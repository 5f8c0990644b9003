"""Every exception that distkit raises on purpose.

    DistkitError
    ├── LocalError            the caller broke a contract; nothing changed
    ├── PeerError             a peer sent nonsense; raised by the codec before any machine sees it
    ├── StorageError          the disk failed or holds damage; the node stops
    ├── IdentityError         this directory, node or cluster is not the one that was expected
    └── OutcomeError          how a proposal or read ended, when it did not succeed
        ├── Refused           definite: it was not done and will not be done
        │   ├── NotLeader     ... ask ``leader``, if it is known
        │   ├── Busy          ... a bounded queue is full: slow down and try again
        │   ├── Full          ... no disk space
        │   ├── Fenced        ... the required term has passed
        │   └── SessionExpired  the session was evicted; earlier commands of it may have been applied
        ├── Superseded        definite: another entry was committed in its place; it was not applied
        └── OutcomeUnknown    indefinite: it may or may not be applied; never retry without a session

Any other exception out of distkit is a bug in distkit or in the embedded state machine: the node stops.
"""

from __future__ import annotations


class DistkitError(Exception):
    """Root of all exceptions raised on purpose."""


class LocalError(DistkitError):
    """The caller broke the contract of a door. The state is as it was before the call."""


class PeerError(DistkitError):
    """A peer sent bytes that are not a valid message. The connection is closed, nothing changes."""


class StorageError(DistkitError):
    """A disk operation failed, or a file holds damage. The node must stop and must not retry.

    ``path`` and ``offset`` say where, as far as it is known.
    """

    def __init__(self, message: str, path: str | None = None, offset: int | None = None) -> None:
        where = "" if path is None else f" [{path}" + ("" if offset is None else f" at offset {offset}") + "]"
        super().__init__(message + where)
        self.path = path
        self.offset = offset


class IdentityError(DistkitError):
    """A directory, node or cluster is not the one that was expected. Says how to go on."""


class OutcomeError(DistkitError):
    """A proposal or read that did not succeed."""


class Refused(OutcomeError):
    """Definite: it never entered a log, so it was not done and will not be done."""


class NotLeader(Refused):
    """This node is not the leader. ``leader`` is the node to ask, or None while there is none."""

    def __init__(self, message: str, leader: int | None = None) -> None:
        super().__init__(message)
        self.leader = leader


class Busy(Refused):
    """A bounded queue is full. Slow down and try again."""


class Full(Refused):
    """There is no disk space for new entries. Reads go on; proposals are taken again once there is space."""


class Fenced(Refused):
    """The proposal was tied to a term that is over."""


class SessionExpired(Refused):
    """The client session was closed or evicted. This command was not applied; earlier ones of it may have been."""


class Superseded(OutcomeError):
    """Definite: another entry was committed at its index, so it was not applied and will not be."""


class OutcomeUnknown(OutcomeError):
    """Indefinite: it may have been applied, or may still be. A retry is safe only within a session."""
