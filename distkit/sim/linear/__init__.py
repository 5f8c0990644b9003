"""Is there one order of operations that explains everything the clients saw? A linearizability checker."""

from distkit.sim.linear.models import Model
from distkit.sim.linear.records import Operation, Result, Verdict

__all__ = ["Model", "Operation", "Result", "Verdict"]
