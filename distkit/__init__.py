"""distkit: distributed systems in Python that stay correct when machines, disks and networks fail."""

from distkit._fast import COMPILED

__all__ = ["COMPILED"]
