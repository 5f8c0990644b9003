"""What a cluster tells its caller, from `Cluster.events`."""

from __future__ import annotations

from distkit.core import record


@record
class Probe:
    """Ask this endpoint, and hand the answer to `Cluster.probed` with this number.

    `kind` is "check" (is it well?) or "load" (how many requests are in flight there, and how long do they take?).
    """

    id: str
    probe_id: int
    kind: str


@record
class Ejected:
    """An endpoint is an outlier and gets no requests until a sweep at or after `until`."""

    id: str
    cause: str
    until: float


@record
class Restored:
    """An ejected endpoint is back."""

    id: str


@record
class Checked:
    """Active checks have found out, or changed their mind about, an endpoint's health."""

    id: str
    healthy: bool


@record
class PanicOn:
    """So few endpoints of this priority are healthy that all of them get requests."""

    priority: int


@record
class PanicOff:
    """Enough endpoints of this priority are healthy again."""

    priority: int


Event = Probe | Ejected | Restored | Checked | PanicOn | PanicOff
