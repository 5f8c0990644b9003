"""The window: the newest entries of a log in memory, as the encoded blocks that travel to disk and to peers."""

from __future__ import annotations

import operator
import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias, final

from distkit._fast.pure.codec import block_entries, block_info, crc32c, cut_block
from distkit.core.errors import LocalError
from distkit.core.limits import INDEX_MAX

_Block: TypeAlias = bytes

_BASE = struct.Struct("<QQ")
_ENTRY = struct.Struct("<QQQBI")


@final
class Window:
    """The entries of a log after `base_index`, as blocks shared by reference.

    The window is contiguous and its terms never fall, so a binary search over the blocks finds an index or a term.
    One owner, not safe for threads. Every refusal is a LocalError and changes nothing.
    """

    __slots__ = ("_base_index", "_base_term", "_base_time_us", "_blocks", "_bytes")

    def __init__(self, base_index: int = 0, base_term: int = 0, time_us: int = 0) -> None:
        """A window without entries that follows (base_index, base_term), written at `time_us`."""
        self._blocks: list[_Block] = []
        self._bytes = 0
        self._base_index = 0
        self._base_term = 0
        self._base_time_us = 0
        self.reset(base_index, base_term, time_us)

    @property
    def base_index(self) -> int:
        """Entries up to this index are gone."""
        return self._base_index

    @property
    def base_term(self) -> int:
        """Term of the entry at `base_index`."""
        return self._base_term

    @property
    def last(self) -> int:
        """Index of the last entry; `base_index` if there are none."""
        return _last(self._blocks[-1]) if self._blocks else self._base_index

    @property
    def last_term(self) -> int:
        """Term of the last entry; `base_term` if there are none."""
        return _term(self._blocks[-1]) if self._blocks else self._base_term

    @property
    def last_time_us(self) -> int:
        """Time of the last block; if there is none, of the last entry that was compacted, 0 at first."""
        return block_info(self._blocks[-1])[3] if self._blocks else self._base_time_us

    @property
    def bytes(self) -> int:
        """Sum of the lengths of all blocks held."""
        return self._bytes

    def append(self, block: _Block) -> None:
        """Add a checked block: it starts at last + 1 and its term is not below last_term."""
        term, first, _, _ = block_info(block)
        if first != self.last + 1:
            raise LocalError(f"a block from index {first} on does not follow index {self.last}")
        if term < self.last_term:
            raise LocalError(f"a block of term {term} does not follow term {self.last_term}")
        self._blocks.append(block)
        self._bytes += len(block)

    def term(self, index: int) -> int:
        """Term of the entry at an index from base_index to last; -1 outside of that."""
        if operator.index(index) == self._base_index:
            return self._base_term
        if not self._base_index < index <= self.last:
            return -1
        return _term(self._blocks[self._find(index)])

    def truncate(self, index: int) -> None:
        """Remove the entries from `index` on (base_index < index <= last + 1); the block it falls into is cut."""
        self._check("index", index, self._base_index + 1, self.last + 1)
        if index > self.last:
            return
        keep = 0
        if index - 1 > self._base_index:
            keep = self._find(index - 1) + 1
            block = self._blocks[keep - 1]
            self._blocks[keep - 1] = cut_block(block, _first(block), index - 1)
        del self._blocks[keep:]
        self._bytes = sum(len(block) for block in self._blocks)

    def compact(self, index: int) -> None:
        """Forget the entries up to `index` (at most last); nothing if they are gone already.

        base_index becomes exactly `index`. Whole blocks are freed; the entries in front of it in a block that is
        kept cannot be reached any more.
        """
        self._check("index", index, 0, self.last)
        if index <= self._base_index:
            return
        position = self._find(index)
        block = self._blocks[position]
        self._base_index = index
        self._base_term = _term(block)
        self._base_time_us = block_info(block)[3]
        gone = position + (index == _last(block))
        self._bytes -= sum(len(block) for block in self._blocks[:gone])
        del self._blocks[:gone]

    def reset(self, index: int, term: int, time_us: int = 0) -> None:
        """Drop everything: the window follows a snapshot at (index, term), written at `time_us`.

        `last_time_us` does not fall by it.
        """
        self._check("index", index, 0, INDEX_MAX)
        self._check("term", term, 0, INDEX_MAX)
        self._check("time_us", time_us, 0, (1 << 64) - 1)
        self._base_time_us = max(self.last_time_us, time_us)
        self._base_index = index
        self._base_term = term
        self._blocks = []
        self._bytes = 0

    def slice(self, lo: int, hi: int, bytes_max: int) -> list[_Block]:
        """Blocks with exactly the entries lo..hi (both included; base_index < lo, hi <= last; none if hi is lo - 1).

        By reference, but for the first and the last, which are cut if they hold more. Ends before the block with
        which the sum of lengths would exceed `bytes_max`, but has at least one.
        """
        self._check_range(lo, hi, bytes_max)
        blocks: list[_Block] = []
        size = 0
        while lo <= hi:
            block = self._blocks[self._find(lo)]
            last = min(hi, _last(block))
            block = cut_block(block, lo, last)
            size += len(block)
            if blocks and size > bytes_max:
                break
            blocks.append(block)
            lo = last + 1
        return blocks

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[tuple[int, int, int, int, _Block]]:
        """(index, term, time_us, kind, payload) of the entries lo..hi, bounds as for `slice`.

        Ends before the entry with which the sum of payloads would exceed `bytes_max`, but has at least one.
        """
        self._check_range(lo, hi, bytes_max)
        entries: list[tuple[int, int, int, int, _Block]] = []
        size = 0
        while lo <= hi:
            block = self._blocks[self._find(lo)]
            term, _, _, time_us = block_info(block)
            for kind, payload in block_entries(block, lo, min(hi, _last(block))):
                size += len(payload)
                if entries and size > bytes_max:
                    return entries
                entries.append((lo, term, time_us, kind, payload))
                lo += 1
        return entries

    def hint(self, index: int, term: int) -> int:
        """The largest i from base_index to min(index, last) with term(i) <= term; -1 if there is none."""
        if operator.index(index) < self._base_index or operator.index(term) < self._base_term:
            return -1
        position = bisect_right(self._blocks, term, key=_term)
        last = _last(self._blocks[position - 1]) if position else self._base_index
        return min(index, last)

    def conflict(self, first: int, blocks: Sequence[_Block]) -> int:
        """Index of the first entry in `blocks` (which follow each other from index `first` on) that the window lacks.

        That is an entry behind `last`, or one whose term differs from the window's; entries up to base_index count
        as equal. The index behind the last one of `blocks` if the window has them all.
        """
        behind = self._check("first", first, 1, INDEX_MAX + 1)
        for block in blocks:
            if _first(block) != behind:
                raise LocalError(f"a block from index {_first(block)} on does not follow index {behind - 1}")
            behind = _last(block) + 1
        for block in blocks:
            index = max(_first(block), self._base_index + 1)
            if index > _last(block):
                continue
            if self.term(index) != _term(block):
                return index
            index = self.hint(_last(block), _term(block))
            if index < _last(block):
                return index + 1
        return behind

    def digest(self) -> int:
        """CRC-32C over (base_index, base_term) and every entry; the same however the entries are cut into blocks.

        Numbers are 8 bytes each; an entry is index, term, time_us, kind (1), length of the payload (4), payload.
        """
        crc = crc32c(_BASE.pack(self._base_index, self._base_term))
        for block in self._blocks:
            term, first, _, time_us = block_info(block)
            first = max(first, self._base_index + 1)
            for index, (kind, payload) in enumerate(block_entries(block, first, _last(block)), first):
                crc = crc32c(_ENTRY.pack(index, term, time_us, kind, len(payload)) + payload, crc)
        return crc

    def _find(self, index: int) -> int:
        """Position of the block that holds this entry."""
        return bisect_right(self._blocks, index, key=_first) - 1

    def _check_range(self, lo: int, hi: int, bytes_max: int) -> None:
        self._check("lo", lo, self._base_index + 1, self.last + 1)
        self._check("hi", hi, lo - 1, self.last)
        operator.index(bytes_max)

    def _check(self, name: str, value: int, low: int, high: int) -> int:
        if not low <= operator.index(value) <= high:
            raise LocalError(f"{name} must be {low} to {high}, not {value}")
        return value


def _term(block: _Block) -> int:
    return block_info(block)[0]


def _first(block: _Block) -> int:
    return block_info(block)[1]


def _last(block: _Block) -> int:
    _, first, count, _ = block_info(block)
    return first + count - 1
