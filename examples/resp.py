"""The Redis protocol without I/O: requests in, replies out, for RESP2 and RESP3.

    parser = Parser(bulk_bytes_max=1_000_000)
    parser.feed(data)                           # whatever the socket gave
    while commands := parser.commands():        # every whole command, in order; [] means: feed more
        for arguments in commands: ...          # [b"SET", b"key", b"value"]

A request is an array of bulk strings or one inline line (typed into telnet). It comes from a stranger, so every count
and length is checked before anything is allocated for it, the memory of an unfinished command is bounded by
`command_bytes_max` plus what was fed last, and the work is linear in the bytes fed however they were cut. That is why
this parser exists beside hiredis, which allocates for the count that a client merely announces.

A request that breaks the protocol ends the connection: `ProtocolError` carries the text that Redis would answer.

The encoders below the parser return bytes ready to send. Only null and map differ between RESP2 and RESP3; nothing
else takes the protocol as an argument.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ and Redis 7.0 `networking.c`, `sds.c`.
"""

import re
from collections.abc import Iterable, Sequence

__all__ = [
    "NULL",
    "OK",
    "Parser",
    "ProtocolError",
    "array",
    "bulk",
    "error",
    "integer",
    "mapping",
    "parse_integer",
    "simple",
    "split_inline",
]

ARGS_MAX_UNAUTHENTICATED = 10
BULK_BYTES_MAX_UNAUTHENTICATED = 16_384
HEADER_BYTES_MAX = 32  # "*" or "$", a 64-bit number and CRLF take at most 23

_ASTERISK, _DOLLAR = b"*$"
_LENGTHS = {b"%d" % number: number for number in range(4096)}  # a look-up is three times faster than a checked int()


class ProtocolError(ValueError):
    """The client broke the protocol. `str(error)` is what to answer before the connection is closed."""


class Parser:
    """Incremental parser of the requests of one connection.

    Args:
        args_max: arguments of one command, its name included.
        bulk_bytes_max: bytes of one argument.
        command_bytes_max: bytes of all arguments of one command.
        inline_bytes_max: bytes of one inline line.
        authenticated: False until the client has shown its password; set the attribute when it has. Until then Redis's
            own narrow limits hold and `commands` hands out one command a call, so that AUTH takes effect before
            whatever the client sent behind it is judged.
    """

    __slots__ = (
        "_args_max",
        "_arguments",
        "_awaits_newline",
        "_bulk_bytes_max",
        "_command_bytes_max",
        "_fault",
        "_inline_bytes_max",
        "_missing",
        "_room",
        "_unread",
        "_wanted",
        "authenticated",
    )

    def __init__(
        self,
        *,
        args_max: int = 65_536,
        bulk_bytes_max: int = 1_000_000,
        command_bytes_max: int = 4 * 1024 * 1024,
        inline_bytes_max: int = 64 * 1024,
        authenticated: bool = True,
    ) -> None:
        self.authenticated = authenticated
        self._args_max = args_max
        self._bulk_bytes_max = bulk_bytes_max
        self._command_bytes_max = command_bytes_max
        self._inline_bytes_max = inline_bytes_max
        self._unread = bytearray()
        self._wanted = 1  # no progress is possible before this many bytes are unread
        self._awaits_newline = False  # ... or, for an inline command, before a newline came
        self._arguments: list[bytes] = []  # of the command that is still incomplete
        self._missing = 0  # how many arguments it still lacks
        self._room = 0  # how many bytes those may have together
        self._fault: str | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes from the connection. After a fault they are dropped."""
        if self._fault is not None:
            return
        self._unread += data
        if self._awaits_newline and b"\n" in data:
            self._wanted = 1

    def commands(self) -> list[list[bytes]]:
        """Take every command that is complete, in order; an empty list means that more bytes are needed.

        Raises:
            ProtocolError: what follows is no command. The commands before the fault are handed out first, by one call;
                the next call, and each later one, raises.
        """
        if self._fault is not None:
            raise ProtocolError(self._fault)
        complete: list[list[bytes]] = []
        if len(self._unread) < self._wanted:
            return complete
        try:
            # Slices of bytes are bytes, which is what arguments have to be. What stays unread is copied again next
            # time, but it is shorter than a header, or `_wanted` says when copying is worth it.
            used = self._parse(bytes(self._unread), complete)
        except ProtocolError as fault:
            self._fault = str(fault)
            if not complete:
                raise
        else:
            del self._unread[:used]
        return complete

    def _parse(self, buffer: bytes, complete: list[list[bytes]]) -> int:
        """Append whole commands to `complete`; return how many bytes were used and remember what is awaited."""
        self._awaits_newline = False
        self._wanted = 1
        one_only = not self.authenticated
        position, end = 0, len(buffer)
        while position < end:
            if not self._missing:
                if buffer[position] == _ASTERISK:
                    start = self._parse_count(buffer, position)
                else:
                    start = self._parse_inline(buffer, position, complete)
                if not start:
                    break
                position = start
            if self._missing:
                position = self._parse_arguments(buffer, position)
                if self._missing:
                    break
                complete.append(self._arguments)
                self._arguments = []
            if one_only and complete:
                break
        return position

    def _parse_count(self, buffer: bytes, position: int) -> int:
        """Read `*count CRLF`; return the position behind it, 0 if it is incomplete. Counts below 1 are no command."""
        line_end = buffer.find(b"\r\n", position, position + HEADER_BYTES_MAX)
        if line_end < 0:
            self._await_header(buffer, position, "too big mbulk count string")
            return 0
        line = buffer[position + 1 : line_end]
        count = _LENGTHS.get(line)
        if count is None:
            count = parse_integer(line)
        if count is None or count > self._args_max:
            raise ProtocolError("ERR Protocol error: invalid multibulk length")
        if count > ARGS_MAX_UNAUTHENTICATED and not self.authenticated:
            raise ProtocolError("ERR Protocol error: unauthenticated multibulk length")
        self._missing = max(count, 0)
        self._room = self._command_bytes_max
        return line_end + 2

    def _parse_arguments(self, buffer: bytes, position: int) -> int:
        """Read `$length CRLF bytes CRLF` while arguments are missing; return the position behind the last whole one."""
        find, lengths, append, end = buffer.find, _LENGTHS, self._arguments.append, len(buffer)
        bulk_bytes_max = self._bulk_bytes_max if self.authenticated else BULK_BYTES_MAX_UNAUTHENTICATED
        missing, room = self._missing, self._room
        while missing and position < end:
            if buffer[position] != _DOLLAR:
                raise ProtocolError(f"ERR Protocol error: expected '$', got '{_printable(buffer[position])}'")
            line_end = find(b"\r\n", position, position + HEADER_BYTES_MAX)
            if line_end < 0:
                self._await_header(buffer, position, "too big bulk count string")
                break
            line = buffer[position + 1 : line_end]
            length = lengths.get(line)
            if length is None:
                length = parse_integer(line)
            if length is None or length > bulk_bytes_max or length > room or length < 0:
                raise ProtocolError(self._length_fault(length))
            start = line_end + 2
            stop = start + length
            if stop + 2 > end:
                self._wanted = stop + 2 - position
                break
            if buffer[stop : stop + 2] != b"\r\n":  # Redis skips the two bytes unseen: a wrong length would shift all
                raise ProtocolError("ERR Protocol error: invalid bulk length")
            append(buffer[start:stop])
            position = stop + 2
            room -= length
            missing -= 1
        self._missing, self._room = missing, room
        return position

    def _parse_inline(self, buffer: bytes, position: int, complete: list[list[bytes]]) -> int:
        """Read one line as a command; return the position behind it, 0 if it is incomplete. Empty lines are skipped."""
        newline = buffer.find(b"\n", position, position + self._inline_bytes_max + 1)
        if newline < 0:
            if len(buffer) - position > self._inline_bytes_max:
                raise ProtocolError("ERR Protocol error: too big inline request")
            self._wanted = self._inline_bytes_max + 1
            self._awaits_newline = True
            return 0
        arguments = split_inline(buffer[position:newline])
        if arguments is None:
            raise ProtocolError("ERR Protocol error: unbalanced quotes in request")
        if len(arguments) > self._args_max:
            raise ProtocolError("ERR Protocol error: invalid multibulk length")
        if arguments:
            # A page in a browser can send HTTP to a port on the loopback interface; its body must not be run.
            if arguments[0].lower() in (b"post", b"host:"):
                raise ProtocolError("ERR Protocol error: HTTP is not served on this port")
            complete.append(arguments)
        return newline + 1

    def _await_header(self, buffer: bytes, position: int, fault: str) -> None:
        if len(buffer) - position >= HEADER_BYTES_MAX:
            raise ProtocolError(f"ERR Protocol error: {fault}")
        self._wanted = len(buffer) - position + 1

    def _length_fault(self, length: int | None) -> str:
        if length is None or length < 0 or length > self._bulk_bytes_max:
            return "ERR Protocol error: invalid bulk length"
        if length > BULK_BYTES_MAX_UNAUTHENTICATED and not self.authenticated:
            return "ERR Protocol error: unauthenticated bulk length"
        return f"ERR Protocol error: too big request, {self._command_bytes_max} bytes at most"


def parse_integer(digits: bytes) -> int | None:
    """A signed 64-bit number written the one way Redis accepts: no plus sign, no leading zero, no space; else None."""
    if len(digits) > 20:
        return None
    try:
        number = int(digits)
    except ValueError:
        return None
    return number if b"%d" % number == digits and -(2**63) <= number < 2**63 else None


def _printable(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


# An argument is unquoted bytes, then at most one quoted part, which has to be its end. The alternatives within a quoted
# part exclude each other, so a byte is looked at once, and a quote that is never closed can't be read any other way.
# (No possessive quantifiers: those of Python 3.11.0 to 3.11.3 lose what is captured within them.)
_SPACE = b" \t\n\v\f\r"
_BOUNDARIES = (b"", *(bytes((byte,)) for byte in _SPACE))
_SPACES = re.compile(rb"[ \t\n\v\f\r]*")
_UNQUOTED = re.compile(rb"""[^ \n\r\t"']*""")
_QUOTED = {
    b'"': re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    b"'": re.compile(rb"'((?:[^'\\]|\\'|\\(?!'))*)'", re.DOTALL),
}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_inline(line: bytes) -> list[bytes] | None:
    """Split an inline command by Redis's quoting rules; None if quotes are unbalanced.

    "..." knows \\n \\r \\t \\b \\a \\xHH and takes any other byte behind a backslash as itself, '...' knows only \\'.
    A closing quote has to be followed by space.
    """
    arguments: list[bytes] = []
    position = _skip(_SPACES, line, 0)
    while position < len(line):
        begin, position = position, _skip(_UNQUOTED, line, position)
        argument = line[begin:position]
        quote = line[position : position + 1]
        if quote in _QUOTED:
            quoted = _QUOTED[quote].match(line, position)
            if quoted is None or line[quoted.end() : quoted.end() + 1] not in _BOUNDARIES:
                return None
            argument += _unquote(quote, quoted.group(1))
            position = quoted.end()
        arguments.append(argument)
        position = _skip(_SPACES, line, position)
    return arguments


def _skip(pattern: re.Pattern[bytes], line: bytes, position: int) -> int:
    """The position behind what the pattern, which also matches nothing, finds there."""
    found = pattern.match(line, position)
    assert found is not None
    return found.end()


def _unquote(quote: bytes, content: bytes) -> bytes:
    return _ESCAPE.sub(_unescape, content) if quote == b'"' else content.replace(b"\\'", b"'")


def _unescape(found: re.Match[bytes]) -> bytes:
    hexadecimal, other = found.groups()
    return bytes.fromhex(hexadecimal.decode()) if hexadecimal else _ESCAPED.get(other, other)


NULL = {2: b"$-1\r\n", 3: b"_\r\n"}
"""Null by protocol version."""

OK = b"+OK\r\n"

_LINE_BREAK = re.compile(r"[\r\n]")


def simple(text: str) -> bytes:
    """A status such as PONG; a line break in it becomes a space."""
    return b"+%s\r\n" % _LINE_BREAK.sub(" ", text).encode()


def error(text: str) -> bytes:
    """An error such as "ERR syntax error": a code in capitals, then words; a line break in it becomes a space."""
    return b"-%s\r\n" % _LINE_BREAK.sub(" ", text).encode()


def integer(number: int) -> bytes:
    """A signed 64-bit integer."""
    return b":%d\r\n" % number


def bulk(value: bytes) -> bytes:
    """A string of any bytes."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(replies: Sequence[bytes]) -> bytes:
    """An array of replies that are already encoded."""
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def mapping(pairs: Iterable[tuple[bytes, bytes]], protocol: int) -> bytes:
    """A map of replies that are already encoded; in RESP2 an array in which keys and values alternate."""
    flat = [reply for pair in pairs for reply in pair]
    if protocol < 3:
        return array(flat)
    return b"%%%d\r\n%b" % (len(flat) // 2, b"".join(flat))
