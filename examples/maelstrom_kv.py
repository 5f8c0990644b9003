"""The replicated half of the Maelstrom example: a map from keys to values that knows read, write and compare-and-set.

Keys and values are JSON values as canonical text, so that equality of texts is all that counts. A command is its fields
with NUL between them, which canonical JSON never contains: `w key value` or `c key from to`. A result is the body of
the answer. Whether a compare-and-set holds is decided here, when it is applied, and nowhere else.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator

from maelstrom_wire import Code, canonical, error

from distkit import StateMachine

__all__ = ["MISSING", "LinearizableMap", "cas_command", "write_command"]

MISSING = error(Code.KEY_MISSING, "there is no such key")
"""The answer to a read or compare-and-set of a key that was never written."""

_WRITTEN = canonical({"type": "write_ok"}).encode()
_SWAPPED = canonical({"type": "cas_ok"}).encode()
_MISSING = canonical(MISSING).encode()
_UNKNOWN = canonical(error(Code.MALFORMED, "this entry is of another version; nothing was changed")).encode()
_SIZES = struct.Struct("<II")


def write_command(key: str, value: str) -> bytes:
    """Set a key; both are canonical JSON."""
    return "\0".join(("w", key, value)).encode()


def cas_command(key: str, old: str, new: str) -> bytes:
    """Set a key if it holds `old`; all are canonical JSON."""
    return "\0".join(("c", key, old, new)).encode()


class LinearizableMap(StateMachine):
    """The map. `get` reads what is applied."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The value of a key, None if it was never written."""
        return self._values.get(key.encode())

    def apply(self, index: int, term: int, time_us: int, command: bytes) -> bytes:
        """Carry out one command; what is wrong with it is its result."""
        match command.split(b"\0"):
            case [b"w", key, value]:
                self._values[key] = value
                return _WRITTEN
            case [b"c", key, old, new]:
                return self._swap(key, old, new)
        return _UNKNOWN

    def _swap(self, key: bytes, old: bytes, new: bytes) -> bytes:
        held = self._values.get(key)
        if held is None:
            return _MISSING
        if held != old:
            text = f"it holds {held.decode(errors='replace')[:100]}, not {old.decode(errors='replace')[:100]}"
            return canonical(error(Code.MISMATCH, text)).encode()
        self._values[key] = new
        return _SWAPPED

    def snapshot(self) -> Iterator[bytes]:
        """Freeze the map; a chunk for each key: the sizes of key and value, and both."""
        return (_SIZES.pack(len(key), len(value)) + key + value for key, value in sorted(self._values.items()))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the map by a snapshot's."""
        values = {}
        for chunk in chunks:
            key_size, value_size = _SIZES.unpack_from(chunk)
            if len(chunk) != _SIZES.size + key_size + value_size:
                raise ValueError("a chunk of the snapshot does not hold one key and its value")
            values[chunk[_SIZES.size : _SIZES.size + key_size]] = chunk[_SIZES.size + key_size :]
        self._values = values

    def digest(self) -> bytes:
        """32 bytes, equal where keys and values are."""
        return hashlib.blake2b(b"".join(self.snapshot()), digest_size=32).digest()
