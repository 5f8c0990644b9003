"""Which policy to choose: the balancers that ship in front of simulated servers with queues, and what callers feel.

    scenario = SCENARIOS["slow-servers"]
    for name in ("round_robin", "peak_ewma"):
        options = ClusterOptions(policy=policies.named(name))
        print(name, measure(simulate(options, scenario, seed=1)))

`compare` runs several policies on the same requests, over many seeds; `report` makes a page of it. It needs
`distkit[model]`.
"""

from distkit.sim.queueing.compare import Comparison, Interval, compare
from distkit.sim.queueing.measures import MEASURES, Measures, measure
from distkit.sim.queueing.report import report
from distkit.sim.queueing.run import Run, simulate
from distkit.sim.queueing.scenarios import SCENARIOS, Change, Scenario, Server

__all__ = [
    "MEASURES",
    "SCENARIOS",
    "Change",
    "Comparison",
    "Interval",
    "Measures",
    "Run",
    "Scenario",
    "Server",
    "compare",
    "measure",
    "report",
    "simulate",
]
