"""Is there one order of operations that explains everything the clients saw? A linearizability checker.

verdict = check(history, "cas-register")
print(verdict.text())
"""

from distkit.sim.linear.models import (
    MODELS,
    AppendList,
    CasRegister,
    Counter,
    FifoQueue,
    KeyValue,
    Model,
    Mutex,
    Register,
)
from distkit.sim.linear.records import Operation, Result, Verdict
from distkit.sim.linear.search import check

__all__ = [
    "MODELS",
    "AppendList",
    "CasRegister",
    "Counter",
    "FifoQueue",
    "KeyValue",
    "Model",
    "Mutex",
    "Operation",
    "Register",
    "Result",
    "Verdict",
    "check",
]
