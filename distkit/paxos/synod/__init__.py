"""Single-decree Paxos: one machine without I/O that chooses one value, once and for ever.

Make a node with `recover`, first from `formation_records`; drive it as `distkit.core.machine` says.
"""

from distkit.paxos.synod.configuration import SynodConfiguration, all_roles
from distkit.paxos.synod.durable import formation_records
from distkit.paxos.synod.machine import Synod, recover
from distkit.paxos.synod.messages import MESSAGES, RECORDS, Decided, Voted
from distkit.paxos.synod.options import SynodOptions
from distkit.paxos.synod.state import VALUE_BYTES_MAX, Phase
from distkit.paxos.synod.status import SynodStatus

__all__ = [
    "MESSAGES",
    "RECORDS",
    "VALUE_BYTES_MAX",
    "Decided",
    "Phase",
    "Synod",
    "SynodConfiguration",
    "SynodOptions",
    "SynodStatus",
    "Voted",
    "all_roles",
    "formation_records",
    "recover",
]
