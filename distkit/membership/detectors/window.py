"""The last so many numbers with their sums, exact however long the window is and however large they are."""

from __future__ import annotations

from collections import deque

_NANOSECONDS = 1_000_000_000


class Window:
    """Times in seconds, kept as whole nanoseconds: sums of ints neither drift nor lose digits. Costs O(1) each."""

    __slots__ = ("_samples", "_squares", "_sum")

    def __init__(self, samples_max: int) -> None:
        self._samples: deque[int] = deque(maxlen=samples_max)
        self._sum = 0
        self._squares = 0

    def append(self, seconds: float) -> None:
        """Take a number; the oldest leaves a full window."""
        samples = self._samples
        if len(samples) == samples.maxlen:
            oldest = samples[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        value = round(seconds * _NANOSECONDS)
        samples.append(value)
        self._sum += value
        self._squares += value * value

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def mean(self) -> float:
        """Seconds. At least one number must be there."""
        return self._sum / (len(self._samples) * _NANOSECONDS)

    @property
    def variance(self) -> float:
        """Mean of the squares less the square of the mean (of a whole population, not of a sample), seconds squared."""
        count = len(self._samples)
        return (count * self._squares - self._sum * self._sum) / (count * _NANOSECONDS) ** 2
