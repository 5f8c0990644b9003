"""Who is there, and who is down: failure detectors, SWIM with Lifeguard, and a filter for stable cuts.

    detectors/   heartbeats in, suspicion out: deadline, phi accrual, Chen, Bertier
    swim/        the membership of a group by probing and gossip, one machine without I/O
    packets      SWIM's messages as encrypted datagrams
    cuts         many reports in, one proposal of changes out (Rapid)

`docs/membership.md` shows how to use them, `distkit.node.membership` runs SWIM on trio and UDP.
"""
