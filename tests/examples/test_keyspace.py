"""The example store's keyspace: views that stay frozen, deadlines that no removal can be told from, whole snapshots."""

from collections.abc import Iterator
from zlib import crc32

import keyspace
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyspace import BUCKETS, Keyspace, SnapshotError


def contents(space: Keyspace) -> dict[bytes, tuple[bytes, int]]:
    return {
        key: (space.get(key) or b"", space.deadline_us(key)) for number in range(BUCKETS) for key in space.keys(number)
    }


def image(space: Keyspace) -> bytes:
    return b"".join(space.view().chunks())


def filled(count: int = 100) -> Keyspace:
    space = Keyspace()
    space.advance(1_000, 0)
    for number in range(count):
        space.put(b"key %d" % number, b"value %d" % number, 2_000 + number if number % 3 == 0 else 0)
    return space


def same_bucket(count: int) -> list[bytes]:
    """Keys that share a bucket, whose order therefore shows."""
    found = (b"%d" % number for number in range(1_000_000) if crc32(b"%d" % number) % BUCKETS == 7)
    return [next(found) for _ in range(count)]


# Frozen views


def test_a_frozen_view_does_not_see_what_is_written_later() -> None:
    space = filled()
    before = contents(space)
    chunks = space.freeze().chunks()
    for number in range(0, 100, 2):
        space.put(b"key %d" % number, b"changed")
    for number in range(1, 100, 4):
        space.delete(b"key %d" % number)
    space.put(b"new", b"")
    space.advance(2_050, 1_000)
    after = contents(space)
    assert contents(Keyspace.restore(chunks)) == before
    assert contents(space) == after != before


def test_two_views_and_a_flush_between_them_stay_apart() -> None:
    space = filled()
    first = space.freeze()
    space.put(b"key 1", b"second")
    second = space.freeze()
    space.put(b"key 1", b"third")
    space.clear()
    assert [Keyspace.restore(view.chunks()).get(b"key 1") for view in (first, second)] == [b"value 1", b"second"]
    assert len(space) == 0


def test_freezing_copies_no_key_and_the_first_write_to_a_bucket_copies_that_bucket_alone() -> None:
    space = filled()
    buckets = list(space._buckets)
    space.freeze()
    assert all(now is then for now, then in zip(space._buckets, buckets, strict=True))
    space.put(b"key 1", b"a")
    changed = list(space._buckets)
    space.put(b"key 1", b"b")
    assert all(now is then for now, then in zip(space._buckets, changed, strict=True))
    assert sum(now is not then for now, then in zip(changed, buckets, strict=True)) == 1


# Deadlines


def test_a_key_is_there_until_time_reaches_its_deadline() -> None:
    space = Keyspace()
    space.put(b"k", b"v", 10)
    space.advance(9, 0)
    assert (space.get(b"k"), len(space)) == (b"v", 1)
    space.advance(10, 0)
    assert (space.get(b"k"), len(space), contents(space), space.delete(b"k")) == (None, 0, {}, False)


def test_time_never_goes_back() -> None:
    space = Keyspace()
    space.advance(10, 0)
    space.advance(9, 0)
    assert space.time_us == 10


def test_removals_are_bounded_and_the_next_deadline_tells_that_more_wait() -> None:
    space = Keyspace()
    for number in range(100):
        space.put(b"%d" % number, b"", 5)
    space.put(b"later", b"", 50)
    space.advance(5, 30)
    assert sum(map(len, space._buckets)) == 71
    assert (len(space), space.next_deadline_us()) == (1, 5)
    space.advance(5, 1000)
    assert (sum(map(len, space._buckets)), space.next_deadline_us()) == (1, 50)


def test_a_deadline_that_was_replaced_or_dropped_removes_nothing() -> None:
    space = Keyspace()
    space.put(b"extended", b"", 5)
    space.put(b"extended", b"", 9)
    space.put(b"kept", b"", 5)
    space.put(b"kept", b"")
    space.put(b"gone", b"", 5)
    space.delete(b"gone")
    assert space.next_deadline_us() == 9
    space.advance(8, 100)
    assert set(contents(space)) == {b"extended", b"kept"}


def test_a_key_set_with_a_deadline_again_and_again_costs_no_memory() -> None:
    space = Keyspace()
    for number in range(20_000):
        space.put(b"k", b"", 1_000_000 + number)
        space.put(b"same", b"", 1_000_000)
    assert len(space._deadlines) < 3_000
    assert space.next_deadline_us() == 1_000_000


@pytest.mark.parametrize("removals", [0, 1, 100])
def test_the_order_of_keys_does_not_tell_when_expired_ones_were_removed(removals: int) -> None:
    space = Keyspace()
    first, second, third = same_bucket(3)
    space.put(first, b"", 5)
    space.put(second, b"", 6)
    space.put(third, b"")
    space.advance(7, removals)
    space.put(first, b"again")
    space.put(second, b"again")
    assert space.keys(7) == [third, first, second]


# Snapshots


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 1_000, 1_000_000])
def test_a_snapshot_is_restored_from_pieces_of_any_size(size: int) -> None:
    space = filled()
    space.put(b"large", b"x" * 20_000)
    space.put(b"", b"")
    restored = Keyspace.restore(pieces(image(space), size))
    assert contents(restored) == contents(space)
    assert image(restored) == image(space)
    assert (restored.time_us, restored.next_deadline_us()) == (1_000, 2_000)


def test_a_snapshot_leaves_out_what_is_expired_whether_removed_or_not() -> None:
    removed, stored = filled(), filled()
    removed.advance(2_050, 1_000)
    stored.advance(2_050, 0)
    assert len(stored) == len(removed) == 100 - 17
    assert image(stored) == image(removed)


def test_chunks_are_of_moderate_size_and_made_one_by_one() -> None:
    space = Keyspace()
    for number in range(3_000):
        space.put(b"%d" % number, b"x" * 300)
    space.put(b"large", b"y" * keyspace.VALUE_BYTES_MAX)
    chunks = list(space.freeze().chunks())
    assert {len(chunk) for chunk in chunks[:-1]} == {256 * 1024}
    assert 1 <= len(chunks[-1]) < 256 * 1024 + 100
    assert contents(Keyspace.restore(chunks)) == contents(space)


def test_a_snapshot_that_is_cut_short_or_goes_on_is_refused() -> None:
    whole = image(filled(5))
    for length in range(len(whole)):
        with pytest.raises(SnapshotError):
            Keyspace.restore([whole[:length]])
    for rest in (b"\0", whole):
        with pytest.raises(SnapshotError, match="last record"):
            Keyspace.restore([whole, rest])
        with pytest.raises(SnapshotError, match="last record"):
            Keyspace.restore([whole + rest])


def test_a_snapshot_that_lacks_a_record_is_refused() -> None:
    one, two = image(filled(4)), image(filled(5))
    end = len(one) - 16
    with pytest.raises(SnapshotError, match="last record"):
        Keyspace.restore([one[:end] + two[-16:]])


def test_a_damaged_length_is_refused_before_anything_is_gathered_for_it() -> None:
    whole = image(filled(5))
    second = 16 + len(b"distkit example keyspace 1")
    for place in (second, second + 4):
        with pytest.raises(SnapshotError, match="longer than"):
            Keyspace.restore([whole[:place] + b"\xfe\xff\xff\xff" + whole[place + 4 :]])


def test_another_version_is_refused_by_name() -> None:
    whole = image(filled(5)).replace(b"keyspace 1", b"keyspace 2")
    with pytest.raises(SnapshotError, match="this one with b'distkit example keyspace 2'"):
        Keyspace.restore([whole])


@given(st.binary(max_size=200), st.integers(0, 150))
def test_any_damage_is_refused_or_harmless(noise: bytes, place: int) -> None:
    whole = image(filled(5))
    for damaged in (noise, whole[:place] + noise + whole[place + len(noise) :]):
        try:
            restored = Keyspace.restore([damaged])
        except SnapshotError:
            continue
        contents(restored)
