"""What do blocks, log records and the window cost, beside a memory copy and struct + zlib in the same run?

All cases take turns, so that a slow moment of the machine meets all of them. Rates count entries that lie in blocks:
`encode_records` wraps blocks of 256 x 256 B that exist already (as a log does with the blocks that its leader made),
`encode_block_and_record` makes the block too, `scan_records` decodes such a log back into its blocks. No entry is taken
out of its block on the way; `block_entries` is what that costs.

The cases with `segment` in their name do the same for a segment of 16 MiB, more than the caches hold, into memory that
is new to the process, as at a restart: there the page faults of any copy are the limit, so compare with that.

    python benchmarks/codec.py [--seconds 0.2] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import distkit
from distkit._fast import codec, logbuf, quorum

ENTRIES = [bytes([number]) * 256 for number in range(256)]
MAX = 1 << 20
PLACE = (1, 2, 3)  # cluster, node, segment
ROUNDS = 15
SLICE = 67_664  # a block of 256 entries and its header


@dataclass
class Case:
    """One question. `entries` a call turn its time into a rate; `beside` names the case it is compared with."""

    name: str
    call: Callable[[], object]
    entries: int = 0
    beside: str = ""
    times: list[float] = field(default_factory=list)


def block_of(count: int, first: int = 1) -> bytes:
    return codec.encode_block(3, first, 77, b"\1" * count, ENTRIES[:count])


def struct_zlib_encode(payloads: list[bytes]) -> bytes:
    """The block as a careful Python programmer writes it, with the checksum of the standard library."""
    end = 0
    table = []
    for payload in payloads:
        end += len(payload)
        table.append(struct.pack("<IBBH", end, 1, 0, 0))
    head = b"".join(table)
    body = b"".join(payloads)
    start = struct.pack("<HBBIQQQIII", 0xB10C, 1, 0, len(payloads), 3, 1, 77, end, 0, zlib.crc32(body))
    return b"".join((start, struct.pack("<I", zlib.crc32(head, zlib.crc32(start))), head, body))


def struct_zlib_check(block: bytes) -> bool:
    *_, count, _, _, _, _, _, body_crc, crc = struct.unpack_from("<HBBIQQQIIII", block)
    body_at = 48 + 8 * count
    view = memoryview(block)
    head_crc = zlib.crc32(view[48:body_at], zlib.crc32(view[:44]))
    ends = [entry[0] for entry in struct.iter_unpack("<IBBH", view[48:body_at])]
    return head_crc == crc and zlib.crc32(view[body_at:]) == body_crc and ends == sorted(ends)


def block_cases() -> list[Case]:
    payloads, kinds = ENTRIES[:64], b"\1" * 64
    block, one, mutable = block_of(64), block_of(1), bytearray(block_of(64))
    foreign = struct_zlib_encode(payloads)
    assert struct_zlib_check(foreign)
    return [
        Case("memcpy_64x256", lambda: bytes(mutable)),
        Case("struct_zlib_encode_64x256", lambda: struct_zlib_encode(payloads), beside="memcpy_64x256"),
        Case("struct_zlib_check_64x256", lambda: struct_zlib_check(foreign), beside="memcpy_64x256"),
        Case("encode_block_64x256", lambda: codec.encode_block(3, 1, 77, kinds, payloads), beside="memcpy_64x256"),
        Case("check_block_64x256", lambda: codec.check_block(block), beside="memcpy_64x256"),
        Case("encode_block_1x256", lambda: codec.encode_block(3, 1, 77, b"\1", ENTRIES[:1])),
        Case("check_block_1x256", lambda: codec.check_block(one)),
        Case("cut_block_64x256_to_32", lambda: codec.cut_block(block, 17, 48), beside="memcpy_64x256"),
        Case("block_entries_64x256", lambda: codec.block_entries(block, 1, 64), beside="memcpy_64x256"),
    ]


def record_cases() -> list[Case]:
    kinds = b"\1" * 256
    records = [(96, 0, block_of(256, first)) for first in range(1, 17)]
    small = [(96, 0, block_of(1))]
    data = b"".join(codec.encode_records(*PLACE, 64, 0, records))
    mutable, segment = bytearray(data), b"".join(codec.encode_records(*PLACE, 64, 0, records * 15))
    zeros = bytes(MAX)

    def both() -> list[bytes]:
        return codec.encode_records(*PLACE, 64, 0, [(96, 0, codec.encode_block(3, 1, 77, kinds, ENTRIES))])

    def scan(log: bytes) -> Callable[[], object]:
        return lambda: codec.scan_records(log, 0, *PLACE, 64, MAX)

    return [
        Case("memcpy_16_blocks_of_256", lambda: bytes(mutable), entries=16 * 256),
        Case(
            "encode_records", lambda: codec.encode_records(*PLACE, 64, 0, records), 16 * 256, "memcpy_16_blocks_of_256"
        ),
        Case("encode_block_and_record", both, 256),
        Case("encode_records_one_entry", lambda: codec.encode_records(*PLACE, 64, 0, small), 1),
        Case("scan_records", scan(data), 16 * 256, "memcpy_16_blocks_of_256"),
        Case("memcpy_segment", lambda: [segment[at : at + SLICE] for at in range(0, len(segment), SLICE)], 240 * 256),
        Case("scan_segment", scan(segment), 240 * 256, "memcpy_segment"),
        Case("find_record_in_1_MiB_of_zeros", lambda: codec.find_record(zeros, 0, *PLACE, 64, MAX)),
    ]


def window_cases() -> list[Case]:
    window = logbuf.Window()
    for position in range(300):
        window.append(block_of(64, 1 + 64 * position))
    last = window.last
    following = block_of(64, last + 1)

    def append_and_truncate() -> None:
        window.append(following)
        window.truncate(last + 1)

    return [
        Case("window_append_and_truncate_of_300_blocks", append_and_truncate),
        Case("window_term_of_last", lambda: window.term(last)),
        Case("window_term_in_the_middle", lambda: window.term(last // 2)),
        Case("window_slice_of_last_block", lambda: window.slice(last - 63, last, MAX)),
        Case("window_entries_of_last_block", lambda: window.entries(last - 63, last, MAX), 64),
        Case("window_hint", lambda: window.hint(last, 2)),
        Case("window_conflict_of_one_block", lambda: window.conflict(last + 1, [following])),
        Case("majority_index_of_3", lambda: quorum.majority_index([7, 9, 8])),
        Case("majority_index_of_5", lambda: quorum.majority_index([7, 9, 8, 3, 11])),
    ]


def run(cases: list[Case], seconds: float) -> None:
    """Fill in seconds a call, a figure for each round, the cases taking turns."""
    counts = {}
    for case in cases:
        began = time.perf_counter()
        case.call()
        once = time.perf_counter() - began
        counts[case.name] = max(1, int(seconds / ROUNDS / max(once, 1e-7)))
    for _ in range(ROUNDS):
        for case in cases:
            count, call = counts[case.name], case.call
            began = time.perf_counter()
            for _ in range(count):
                call()
            case.times.append((time.perf_counter() - began) / count)


def report(case: Case, cases: dict[str, Case], params: dict[str, Any]) -> dict[str, Any]:
    """The figure of a case: the median round, with the best and worst one in the params."""
    median, best, worst = statistics.median(case.times), min(case.times), max(case.times)
    params = {**params, "us_min": round(best * 1e6, 3), "us_max": round(worst * 1e6, 3), "rounds": ROUNDS}
    if case.beside:
        ratio = median / statistics.median(cases[case.beside].times)
        params |= {"beside": case.beside, "times_as_long": round(ratio, 2)}
    if case.entries:
        params["us"] = round(median * 1e6, 3)
        return {"name": case.name, "value": round(case.entries / median), "unit": "entries/s", "params": params}
    return {"name": case.name, "value": round(median * 1e6, 3), "unit": "us", "params": params}


def main() -> int:
    """Run the cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each case")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    arguments = parser.parse_args()
    params = {
        "system": "distkit",
        "distkit": distkit.__version__,
        "python": platform.python_version(),
        "compiled": distkit.COMPILED,
        "crc32c": codec.CRC_IMPLEMENTATION,
    }
    cases = [*block_cases(), *record_cases(), *window_cases()]
    run(cases, arguments.seconds)
    named = {case.name: case for case in cases}
    if not arguments.json:
        print(f"distkit {params['distkit']}, Python {params['python']}, {'compiled' if params['compiled'] else 'pure'}")
    for case in cases:
        line = report(case, named, params)
        if arguments.json:
            print(json.dumps(line))
            continue
        ratio = f"{line['params']['times_as_long']:6.2f} x {case.beside}" if case.beside else ""
        print(f"{case.name:42} {line['value']:16,.{0 if case.entries else 3}f} {line['unit']:9} {ratio}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
