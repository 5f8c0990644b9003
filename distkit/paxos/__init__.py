"""The Paxos family: machines without I/O that agree by ballots.

`ballot` packs (round, node) into one integer, `synod` is single-decree Paxos: one value, chosen once.
"""

from distkit.paxos import ballot, synod

__all__ = ["ballot", "synod"]
