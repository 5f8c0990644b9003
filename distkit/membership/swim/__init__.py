"""SWIM with Lifeguard: who is a member of a group, and who has died, by probing and gossip. One machine without I/O.

Make a `Swim`, let it `join`, and drive it as its description says. Packets: `distkit.membership.packets`.
"""

from distkit.membership.swim.events import (
    Alive,
    Conflict,
    Dead,
    Event,
    Joined,
    Left,
    Member,
    Output,
    Suspected,
    Updated,
)
from distkit.membership.swim.machine import Swim
from distkit.membership.swim.messages import MESSAGES, PARTS, Claim, Status
from distkit.membership.swim.options import SwimOptions, plain
from distkit.membership.swim.status import SwimStatus

__all__ = [
    "Alive",
    "Claim",
    "Conflict",
    "Dead",
    "Event",
    "Joined",
    "Left",
    "MESSAGES",
    "Member",
    "Output",
    "PARTS",
    "Status",
    "Suspected",
    "Swim",
    "SwimOptions",
    "SwimStatus",
    "Updated",
    "plain",
]
