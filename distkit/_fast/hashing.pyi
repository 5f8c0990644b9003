"""Consistent hashing: see `distkit._fast.pure.hashing`, the specification of this kernel."""

from collections.abc import Iterable
from typing import Final, final

from typing_extensions import disjoint_base

ENDPOINTS_MAX: Final = 0x100000
KEY_BYTES_MAX: Final = 0x1000
WEIGHT_MIN: Final[float]
WEIGHT_MAX: Final[float]
RING_SIZE_MAX: Final = 0x800000
MAGLEV_SIZE_MAX: Final = 5_000_011
MURMUR_SEED: Final = 0xC70F6907

def xxh64(data: bytes, seed: int = 0) -> int: ...
def murmur2(data: bytes, seed: int = 0xC70F6907) -> int: ...
def ketama_hash(key: bytes) -> int: ...

@disjoint_base
class Order:
    @property
    def count(self) -> int: ...
    @property
    def span(self) -> int: ...
    def lookup(self, hashed: int, attempt: int = 0) -> int: ...
    def first_open(self, hashed: int, closed: bytes | bytearray | memoryview) -> int: ...
    def candidates(self, hashed: int, limit: int = 0x100000) -> list[int]: ...

@final
class Ring(Order):
    @property
    def size(self) -> int: ...
    @staticmethod
    def envoy(
        keys: Iterable[bytes],
        weights: Iterable[float] | None = None,
        size_min: int = 1024,
        size_max: int = 0x800000,
        function: str = "xxh64",
        normalized: bool = False,
    ) -> Ring: ...
    @staticmethod
    def grpc(
        keys: Iterable[bytes], weights: Iterable[float] | None = None, size_min: int = 1024, size_max: int = 4096
    ) -> Ring: ...
    @staticmethod
    def ketama(keys: Iterable[bytes], weights: Iterable[float] | None = None) -> Ring: ...
    @staticmethod
    def nginx(keys: Iterable[bytes], weights: Iterable[float] | None = None) -> Ring: ...

@final
class Maglev(Order):
    @property
    def size(self) -> int: ...
    def __init__(
        self, keys: Iterable[bytes], weights: Iterable[float] | None = None, size: int = 65537, normalized: bool = False
    ) -> None: ...
