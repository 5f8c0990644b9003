"""What every other package stands on: records, the machine shape, errors, limits, and the Clock and Files protocols.

Standard library only, no I/O, no clock, no randomness.
"""

from distkit.core.application import StateMachine
from distkit.core.clock import Clock
from distkit.core.errors import (
    Busy,
    DistkitError,
    Fenced,
    Full,
    IdentityError,
    LocalError,
    NotLeader,
    OutcomeUnknown,
    PeerError,
    Refused,
    SessionExpired,
    StorageError,
    Superseded,
)
from distkit.core.files import Files
from distkit.core.ids import Configuration, Member, MemberRole
from distkit.core.machine import Machine, Outcome, Output, Reason, Reply, Restore, Role, RoleName, Space, Span, Write
from distkit.core.records import record

__all__ = [
    "Busy",
    "Clock",
    "Configuration",
    "DistkitError",
    "Fenced",
    "Files",
    "Full",
    "IdentityError",
    "LocalError",
    "Machine",
    "Member",
    "MemberRole",
    "NotLeader",
    "Outcome",
    "OutcomeUnknown",
    "Output",
    "PeerError",
    "Reason",
    "Refused",
    "Reply",
    "Restore",
    "Role",
    "RoleName",
    "SessionExpired",
    "Space",
    "Span",
    "StateMachine",
    "StorageError",
    "Superseded",
    "Write",
    "record",
]
