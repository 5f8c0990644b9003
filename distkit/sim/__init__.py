"""The same machines and replicas in virtual time, with everything around them failing. See docs/testing.md.

`simulate` tests a state machine with a `Workload`; `drawn`, `run` and `Shrinker` are what the command line uses: a
seed's scenario, its outcome, and a smaller scenario that fails like it. `distkit.sim.linear` judges histories of any
system."""

from distkit.sim.broken import Broken
from distkit.sim.files import Crashed, MemoryFiles
from distkit.sim.scenario import Call, Fault, Scenario
from distkit.sim.shrink import Shrinker
from distkit.sim.simulation import Outcome, SimulationFailed, drawn, run, simulate
from distkit.sim.workload import Workload

__all__ = [
    "Broken",
    "Call",
    "Crashed",
    "Fault",
    "MemoryFiles",
    "Outcome",
    "Scenario",
    "Shrinker",
    "SimulationFailed",
    "Workload",
    "drawn",
    "run",
    "simulate",
]
