"""Failure detectors: heartbeats in, suspicion out. Each method is a value that a `Detector` is made with.

    detector = Detector(PhiNormal(threshold=8.0))
    detector.heartbeat(now, "a")
    for event in detector.flush(now): ...          # Suspected(peer), Trusted(peer)

`quality` tells how good one was, over a trace of what it said.
"""

from distkit.membership.detectors.detector import Detector, Estimate, Method, Suspected, Trusted
from distkit.membership.detectors.phi import PhiExponential, PhiNormal, phi_exponential, phi_normal
from distkit.membership.detectors.quality import Quality, quality, watch
from distkit.membership.detectors.timeouts import Bertier, Chen, Deadline

__all__ = [
    "Bertier",
    "Chen",
    "Deadline",
    "Detector",
    "Estimate",
    "Method",
    "PhiExponential",
    "PhiNormal",
    "Quality",
    "Suspected",
    "Trusted",
    "phi_exponential",
    "phi_normal",
    "quality",
    "watch",
]
