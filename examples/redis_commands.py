"""Redis's string and key commands as functions on a keyspace: what they check, change and answer, as Redis 7.0 does.

`COMMANDS` maps a name in capitals to its arity, whether it writes, and its function. `find` picks a command for
arguments from a client; servers ask it before they propose, so that only sound commands reach the log.

A function gets the keyspace, all arguments and the time in microseconds at which the command is evaluated: the time of
its entry for a command from the log, the caller's clock for a read. It checks everything before it changes anything and
answers with encoded bytes, or None for null, or a list of strings and nulls; these two look different in RESP2 and
RESP3, so whoever knows the client encodes them.

Source: https://redis.io/docs/latest/commands/ and Redis 7.0 `t_string.c`, `expire.c`, `db.c`, `util.c`.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from keyspace import BUCKETS, VALUE_BYTES_MAX, Keyspace
from resp import OK, array, bulk, integer, parse_integer

__all__ = ["COMMANDS", "Command", "CommandError", "Reply", "compile_glob", "find"]

PATTERN_BYTES_MAX = 1024
SCAN_COUNT_MAX = 10_000  # keys of one answer, about: COUNT is a hint, and an answer should not hold up a heartbeat
SCAN_BYTES_MAX = 1024 * 1024

_INT64_MAX = 2**63 - 1

Reply = bytes | None | list[bytes | None]


class CommandError(Exception):
    """The command can't be carried out and has changed nothing. The text is the client's, its code in front."""


class Command(NamedTuple):
    """A row of the command table.

    Attributes:
        arity: the number of arguments, the name included; negative: that many at least.
        is_write: whether it has to go through the log.
        run: what it does.
    """

    arity: int
    is_write: bool
    run: Callable[[Keyspace, Sequence[bytes], int], Reply]


def find(arguments: Sequence[bytes]) -> Command:
    """The command that `arguments` call, its name in any case.

    Raises:
        CommandError: there is no such command, or the number of arguments is wrong.
    """
    name = arguments[0].upper()
    command = COMMANDS.get(name)
    if command is None:
        raise _unknown_command(arguments)
    arity = command.arity
    if len(arguments) != arity and (arity > 0 or len(arguments) < -arity):
        raise _wrong_arity(name)
    return command


def _text(argument: bytes) -> str:
    return argument.decode("utf-8", "backslashreplace")


def _unknown_command(arguments: Sequence[bytes]) -> CommandError:
    shown = ""
    for argument in arguments[1:]:
        if len(shown) >= 128:
            break
        shown += f"'{_text(argument[: 128 - len(shown)])}' "
    name = _text(arguments[0][:128])
    return CommandError(f"ERR unknown command '{name}', with args beginning with: {shown}")


def _wrong_arity(name: bytes) -> CommandError:
    return CommandError(f"ERR wrong number of arguments for '{_text(name.lower())}' command")


def _syntax_error() -> CommandError:
    return CommandError("ERR syntax error")


def _number(digits: bytes) -> int:
    number = parse_integer(digits)
    if number is None:
        raise CommandError("ERR value is not an integer or out of range")
    return number


# Values


def _get(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    value = keyspace.get(arguments[1])
    return None if value is None else bulk(value)


def _set(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    key, value = arguments[1], arguments[2]
    if len(arguments) == 3:
        keyspace.put(key, value)
        return OK
    words, deadline_us = _set_options(arguments, now_us)
    old = keyspace.get(key)
    refused = (b"NX" in words and old is not None) or (b"XX" in words and old is None)
    if not refused:
        if b"KEEPTTL" in words and old is not None:
            deadline_us = keyspace.deadline_us(key)
        keyspace.put(key, value, deadline_us)
    if b"GET" in words:
        return None if old is None else bulk(old)
    return None if refused else OK


def _set_options(arguments: Sequence[bytes], now_us: int) -> tuple[list[bytes], int]:
    """The options of SET without value, and the deadline that one with a value asks for, 0 if there is none."""
    words: list[bytes] = []
    unit = amount = None
    rest = iter(arguments[3:])
    for word in map(bytes.upper, rest):
        if word in (b"NX", b"XX", b"GET", b"KEEPTTL"):
            words.append(word)
        elif word in _SET_UNITS and unit in (None, word):
            unit, amount = word, next(rest, None)
            if amount is None:
                raise _syntax_error()
        else:
            raise _syntax_error()
    if (b"NX" in words and b"XX" in words) or (b"KEEPTTL" in words and unit is not None):
        raise _syntax_error()
    if unit is None or amount is None:
        return words, 0
    return words, _future(_SET_UNITS[unit], amount, now_us, arguments)


def _setnx(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    if keyspace.get(arguments[1]) is not None:
        return integer(0)
    keyspace.put(arguments[1], arguments[2])
    return integer(1)


def _getset(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    old = _get(keyspace, arguments, now_us)
    keyspace.put(arguments[1], arguments[2])
    return old


def _getdel(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    old = _get(keyspace, arguments, now_us)
    keyspace.delete(arguments[1])
    return old


def _mget(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return [keyspace.get(key) for key in arguments[1:]]


def _mset(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    if len(arguments) % 2 == 0:
        raise _wrong_arity(b"MSET")
    for key, value in zip(arguments[1::2], arguments[2::2], strict=True):
        keyspace.put(key, value)
    return OK


def _append(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    key, tail = arguments[1], arguments[2]
    value = keyspace.get(key) or b""
    if len(value) + len(tail) > VALUE_BYTES_MAX:
        raise CommandError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    keyspace.put(key, value + tail, keyspace.deadline_us(key))
    return integer(len(value) + len(tail))


def _strlen(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return integer(len(keyspace.get(arguments[1]) or b""))


def _add(keyspace: Keyspace, key: bytes, amount: int) -> Reply:
    value = keyspace.get(key)
    total = amount if value is None else _number(value) + amount
    if not -_INT64_MAX - 1 <= total <= _INT64_MAX:
        raise CommandError("ERR increment or decrement would overflow")
    keyspace.put(key, b"%d" % total, keyspace.deadline_us(key))
    return integer(total)


def _incr(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return _add(keyspace, arguments[1], 1)


def _decr(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return _add(keyspace, arguments[1], -1)


def _incrby(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return _add(keyspace, arguments[1], _number(arguments[2]))


def _decrby(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    amount = _number(arguments[2])
    if amount < -_INT64_MAX:
        raise CommandError("ERR decrement would overflow")
    return _add(keyspace, arguments[1], -amount)


# Deadlines


class Unit(NamedTuple):
    """How a command states a deadline: in which unit, counted from now or from 1970."""

    us: int
    from_now: bool


_SECONDS, _MILLISECONDS = Unit(1_000_000, True), Unit(1_000, True)
_UNIX_SECONDS, _UNIX_MILLISECONDS = Unit(1_000_000, False), Unit(1_000, False)
_SET_UNITS = {b"EX": _SECONDS, b"PX": _MILLISECONDS, b"EXAT": _UNIX_SECONDS, b"PXAT": _UNIX_MILLISECONDS}


def _deadline(unit: Unit, amount: int, now_us: int, arguments: Sequence[bytes]) -> int:
    # Redis counts milliseconds in 64 bits and refuses what does not fit. Microseconds in 64 bits end in the year
    # 294246; nobody will see that a later deadline is moved there.
    milliseconds = amount * unit.us // 1_000 + (now_us // 1_000 if unit.from_now else 0)
    if not -_INT64_MAX - 1 <= milliseconds <= _INT64_MAX:
        raise _invalid_expire_time(arguments)
    return min(amount * unit.us + (now_us if unit.from_now else 0), _INT64_MAX)


def _future(unit: Unit, digits: bytes, now_us: int, arguments: Sequence[bytes]) -> int:
    """The deadline of a command that sets a value: its number has to be positive."""
    amount = _number(digits)
    if amount <= 0:
        raise _invalid_expire_time(arguments)
    return _deadline(unit, amount, now_us, arguments)


def _invalid_expire_time(arguments: Sequence[bytes]) -> CommandError:
    return CommandError(f"ERR invalid expire time in '{_text(arguments[0].lower())}' command")


def _setex(unit: Unit, keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    keyspace.put(arguments[1], arguments[3], _future(unit, arguments[2], now_us, arguments))
    return OK


def _expire(unit: Unit, keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    key = arguments[1]
    words = _expire_options(arguments)
    deadline_us = _deadline(unit, _number(arguments[2]), now_us, arguments)
    value = keyspace.get(key)
    if value is None:
        return integer(0)
    old_us = keyspace.deadline_us(key)
    if (
        (b"NX" in words and old_us)
        or (b"XX" in words and not old_us)
        or (b"GT" in words and (not old_us or deadline_us <= old_us))  # no deadline counts as an infinite one
        or (b"LT" in words and old_us and deadline_us >= old_us)
    ):
        return integer(0)
    if deadline_us <= now_us:
        keyspace.delete(key)
    else:
        keyspace.put(key, value, deadline_us)
    return integer(1)


def _expire_options(arguments: Sequence[bytes]) -> list[bytes]:
    words = [word.upper() for word in arguments[3:]]
    for word, given in zip(words, arguments[3:], strict=True):
        if word not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(f"ERR Unsupported option {_text(given)}")
    if b"NX" in words and len(set(words)) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if b"GT" in words and b"LT" in words:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return words


def _remaining_us(keyspace: Keyspace, key: bytes, now_us: int) -> int:
    """Microseconds until the key expires; -1: it does not, -2: there is no such key."""
    if keyspace.get(key) is None:
        return -2
    deadline_us = keyspace.deadline_us(key)
    return max(deadline_us - now_us, 0) if deadline_us else -1


def _ttl(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    remaining_us = _remaining_us(keyspace, arguments[1], now_us)
    return integer(remaining_us if remaining_us < 0 else (remaining_us + 500_000) // 1_000_000)


def _pttl(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    remaining_us = _remaining_us(keyspace, arguments[1], now_us)
    return integer(remaining_us if remaining_us < 0 else remaining_us // 1_000)


def _persist(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    value = keyspace.get(arguments[1])
    if value is None or not keyspace.deadline_us(arguments[1]):
        return integer(0)
    keyspace.put(arguments[1], value)
    return integer(1)


# Keys


def _delete(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return integer(sum(keyspace.delete(key) for key in arguments[1:]))


def _exists(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return integer(sum(keyspace.get(key) is not None for key in arguments[1:]))


def _type(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return b"+none\r\n" if keyspace.get(arguments[1]) is None else b"+string\r\n"


def _dbsize(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    return integer(len(keyspace))


def _flush(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() not in (b"ASYNC", b"SYNC")):
        raise _syntax_error()
    keyspace.clear()
    return OK


def _keys(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    matches = compile_glob(arguments[1])
    return [key for number in range(BUCKETS) for key in keyspace.keys(number) if matches(key)]


def _scan(keyspace: Keyspace, arguments: Sequence[bytes], now_us: int) -> Reply:
    # The cursor is the number of the next bucket. A bucket is answered whole, so COUNT is a lower bound.
    if not arguments[1].isdigit() or len(arguments[1]) > 20:
        raise CommandError("ERR invalid cursor")
    cursor = int(arguments[1])
    pattern, count, kind = _scan_options(arguments)
    visited: list[bytes] = []
    visited_bytes = 0
    while cursor < BUCKETS and len(visited) < count and visited_bytes < SCAN_BYTES_MAX:
        keys = keyspace.keys(cursor)
        visited += keys
        visited_bytes += sum(map(len, keys))
        cursor += 1
    matches = compile_glob(pattern)
    found = [bulk(key) for key in visited if matches(key)] if kind == b"string" else []
    return array([bulk(b"%d" % cursor if cursor < BUCKETS else b"0"), array(found)])


def _scan_options(arguments: Sequence[bytes]) -> tuple[bytes, int, bytes]:
    """Pattern, count and type."""
    pattern, count, kind = b"*", 10, b"string"
    if len(arguments) % 2:
        raise _syntax_error()
    for word, value in zip(arguments[2::2], arguments[3::2], strict=True):
        match word.upper():
            case b"MATCH":
                pattern = value
            case b"COUNT":
                count = min(_number(value), SCAN_COUNT_MAX)
                if count < 1:
                    raise _syntax_error()
            case b"TYPE":
                kind = value.lower()
            case _:
                raise _syntax_error()
    return pattern, count, kind


# Patterns


def compile_glob(pattern: bytes) -> Callable[[bytes], object]:
    """A function that says whether a key matches a pattern of KEYS or SCAN, in time linear in the key's length.

    * is any bytes, ? any byte, [abc], [a-z] and [^a] a byte of a set or outside it, \\ takes the next byte as itself.

    Raises:
        CommandError: the pattern is longer than 1024 bytes.
    """
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR pattern is longer than {PATTERN_BYTES_MAX} bytes")
    pieces = [b""]  # what stands between the stars, each of a fixed length
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            pieces.append(b"")
        elif byte == b"?":
            pieces[-1] += b"."
        elif byte == b"[":
            members, position = _compile_set(pattern, position)
            pieces[-1] += members
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            pieces[-1] += re.escape(byte)
    # Behind a star the first place where a piece fits is as good as any later one, so no match is ever reconsidered:
    # (?>...) keeps "a*a*a*a*b" from taking exponential time.
    middle = b"".join(b"(?>.*?%b)" % piece for piece in pieces[1:-1] if piece)
    last = b".*" + pieces[-1] if len(pieces) > 1 else b""
    return re.compile(pieces[0] + middle + last, re.DOTALL).fullmatch


def _compile_set(pattern: bytes, position: int) -> tuple[bytes, int]:
    """The expression for a set whose text starts at `position`, and the position behind it; it may lack its end."""
    outside = pattern[position : position + 1] == b"^"
    position += outside
    members: set[int] = set()
    while position < len(pattern):
        left = len(pattern) - position
        if pattern[position] == ord("\\") and left >= 2:
            members.add(pattern[position + 1])
            position += 2
        elif pattern[position] == ord("]"):
            position += 1
            break
        elif left >= 3 and pattern[position + 1] == ord("-"):
            low, high = sorted((pattern[position], pattern[position + 2]))
            members.update(range(low, high + 1))
            position += 3
        else:
            members.add(pattern[position])
            position += 1
    if not members:
        return (b"." if outside else b"(?!)"), position
    return b"[%b%b]" % (b"^" if outside else b"", b"".join(b"\\x%02x" % byte for byte in sorted(members))), position


COMMANDS: dict[bytes, Command] = {
    b"APPEND": Command(3, True, _append),
    b"DBSIZE": Command(1, False, _dbsize),
    b"DECR": Command(2, True, _decr),
    b"DECRBY": Command(3, True, _decrby),
    b"DEL": Command(-2, True, _delete),
    b"EXISTS": Command(-2, False, _exists),
    b"EXPIRE": Command(-3, True, partial(_expire, _SECONDS)),
    b"EXPIREAT": Command(-3, True, partial(_expire, _UNIX_SECONDS)),
    b"FLUSHALL": Command(-1, True, _flush),
    b"FLUSHDB": Command(-1, True, _flush),
    b"GET": Command(2, False, _get),
    b"GETDEL": Command(2, True, _getdel),
    b"GETSET": Command(3, True, _getset),
    b"INCR": Command(2, True, _incr),
    b"INCRBY": Command(3, True, _incrby),
    b"KEYS": Command(2, False, _keys),
    b"MGET": Command(-2, False, _mget),
    b"MSET": Command(-3, True, _mset),
    b"PERSIST": Command(2, True, _persist),
    b"PEXPIRE": Command(-3, True, partial(_expire, _MILLISECONDS)),
    b"PEXPIREAT": Command(-3, True, partial(_expire, _UNIX_MILLISECONDS)),
    b"PSETEX": Command(4, True, partial(_setex, _MILLISECONDS)),
    b"PTTL": Command(2, False, _pttl),
    b"SCAN": Command(-2, False, _scan),
    b"SET": Command(-3, True, _set),
    b"SETEX": Command(4, True, partial(_setex, _SECONDS)),
    b"SETNX": Command(3, True, _setnx),
    b"STRLEN": Command(2, False, _strlen),
    b"TTL": Command(2, False, _ttl),
    b"TYPE": Command(2, False, _type),
    b"UNLINK": Command(-2, True, _delete),
}
