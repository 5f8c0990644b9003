"""distkit: distributed systems in Python that stay correct when machines, disks and networks fail.

This is the front door: the names most programs need. The protocols are in packages of their own (`distkit.raft` ...).
What needs trio (`open_replica`, `distkit.blocking`) is imported when it is first used, so that `import distkit.raft`
works without trio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from distkit._fast import COMPILED
from distkit.core import (
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
    StateMachine,
    StorageError,
    Superseded,
)

if TYPE_CHECKING:
    from distkit import blocking
    from distkit.node import open_replica

    __version__: str

__all__ = [
    "COMPILED",
    "Busy",
    "DistkitError",
    "Fenced",
    "Full",
    "IdentityError",
    "LocalError",
    "NotLeader",
    "OutcomeUnknown",
    "PeerError",
    "Refused",
    "SessionExpired",
    "StateMachine",
    "StorageError",
    "Superseded",
    "__version__",
    "blocking",
    "open_replica",
]


def __getattr__(name: str) -> Any:
    if name == "open_replica":
        return import_module("distkit.node").open_replica
    if name == "blocking":
        return import_module("distkit.blocking")
    if name == "__version__":
        return import_module("importlib.metadata").version("distkit")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
