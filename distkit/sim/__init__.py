"""The same machines in virtual time. So far: the disk."""

from distkit.sim.files import Crashed, MemoryFiles

__all__ = ["Crashed", "MemoryFiles"]
