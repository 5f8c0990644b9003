"""Who has agreed: pure functions over node ids, for a machine, a test or a picture on a blackboard.

`majority` counts one set of voters, `joint` the two halves of a configuration that is being changed, and `change`
says which configuration may follow which. `flexible` makes values of the quorum systems of Paxos: counts, weights,
grids, any boolean expression. Nothing here has state or does I/O.
"""

from distkit.quorum import change, flexible, joint, majority
from distkit.quorum.majority import INFINITY, VoteResult

__all__ = ["INFINITY", "VoteResult", "change", "flexible", "joint", "majority"]
