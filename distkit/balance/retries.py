"""Trying again: whether it is safe, whether the budget allows it, and when.

A retry needs three yeses: `safe` (doing it twice does no harm), a budget (many retries are a second outage), and time
left. Three budgets, as in the field:

- `RetryBudget` (Finagle): a share of recent requests plus some a second;
- `active_allows` (Envoy): a share of the requests in flight, but at least some;
- `RetryThrottle` (gRPC): tokens that failures take and successes give back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distkit._fast.breaking import RetryBudget, RetryThrottle
from distkit.balance.bounds import number, whole
from distkit.balance.endpoints import Outcome
from distkit.core import LocalError, record

if TYPE_CHECKING:
    from random import Random

__all__ = ["IDEMPOTENT", "Attempt", "Backoff", "RetryBudget", "RetryThrottle", "active_allows", "safe"]

#: Methods that RFC 9110, section 9.2.2, defines as idempotent.
IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")


@record
class Attempt:
    """One attempt that failed.

    `sent`: a byte of the request may have reached the endpoint. `answered`: a byte of the answer went to the caller.
    `replayable`: the whole body is there to be sent again. `refused`: the endpoint said that it did nothing (HTTP/2
    REFUSED_STREAM, or a GOAWAY below this stream). `idempotent` overrides what the method says, for instance because
    the request carries an idempotency key.
    """

    method: str
    outcome: Outcome
    sent: bool = True
    answered: bool = False
    replayable: bool = True
    refused: bool = False
    idempotent: bool | None = None


def safe(attempt: Attempt) -> bool:
    """Whether trying again does no harm: the first attempt did nothing, or doing it twice is as good as once."""
    if attempt.outcome in (Outcome.OK, Outcome.CANCELLED) or attempt.answered or not attempt.replayable:
        return False
    if attempt.refused or not attempt.sent or attempt.outcome is Outcome.CONNECT_FAIL:
        return True
    return attempt.method in IDEMPOTENT if attempt.idempotent is None else attempt.idempotent


def active_allows(active: int, retries: int, percent: float = 20.0, minimum: int = 3) -> bool:
    """Envoy's retry budget: whether fewer `retries` are in flight than max(percent of `active`, minimum).

    `active` counts all requests in flight or waiting.
    """
    whole("active", active)
    whole("retries", retries)
    return retries < max(number("percent", percent, 0, 100) / 100.0 * active, whole("minimum", minimum))


@record
class Backoff:
    """How long to wait before a retry: a random time up to base * 2^(n-1), at most `max` seconds (full jitter)."""

    base: float = 0.025
    max: float = 0.25

    def check(self) -> None:
        """Raise LocalError unless the options make sense."""
        number("base", self.base, 0, 3600)
        number("max", self.max, self.base, 3600)

    def delay(self, retry: int, rng: Random) -> float:
        """Seconds to wait before the `retry`-th retry, counted from 1."""
        if retry < 1:
            raise LocalError(f"retries count from 1, not {retry}")
        return min(self.max, self.base * 2.0 ** min(retry - 1, 60)) * rng.random()
