"""Options of a synod node. Safety does not depend on any of them."""

from __future__ import annotations

from distkit.core import LocalError, record


@record
class SynodOptions:
    """Times are seconds.

    A message without an answer is sent again after `resend`. A proposer that was refused waits for a random part of
    `backoff`, which doubles with each refusal in a row up to `backoff_max`: several round trips make duels short. A
    learner without a decision asks every `learn_interval`, infinity: never.
    """

    resend: float = 0.2
    backoff: float = 0.05
    backoff_max: float = 2.0
    learn_interval: float = 1.0
    tickets_max: int = 1000

    def check(self) -> None:
        """Raise LocalError unless the options make sense together."""
        for name in ("resend", "backoff", "backoff_max"):
            if not 0 < getattr(self, name) < 3600:
                raise LocalError(f"{name} must be between 0 and 3600 seconds, not {getattr(self, name)!r}")
        if self.backoff_max < self.backoff:
            raise LocalError("backoff_max must be at least backoff")
        if not self.learn_interval > 0:
            raise LocalError(f"learn_interval must be more than 0 seconds, not {self.learn_interval!r}")
        if self.tickets_max < 1:
            raise LocalError(f"tickets_max must be at least 1, not {self.tickets_max!r}")
