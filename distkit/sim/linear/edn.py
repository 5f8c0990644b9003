"""A reader of EDN, as far as histories use it: bounded in depth, in length and in memory, and told where it stands.

EDN is the notation of Clojure, in which Jepsen writes its histories (https://github.com/edn-format/edn). Values come
out as plain, hashable ones: keywords, symbols and characters as strings, vectors and lists as tuples, sets and nested
maps as sorted tuples, so that equal ones are equal. The tag of a tagged element is dropped, its value stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from distkit.core import LocalError

#: How deeply collections, tags and discards may be nested.
DEPTH_MAX: Final = 32
#: Characters of one record; those of a history are far shorter.
RECORD_CHARS_MAX: Final = 1 << 20
#: Digits of a number: no counter is longer, and converting one costs the square of it.
_DIGITS_MAX: Final = 100

#: Characters of a value that an error shows.
_SHOWN_CHARS: Final = 60

#: A value out of a file: None, bool, int, float, str, or a tuple of such.
Plain = None | bool | int | float | str | tuple["Plain", ...]
Record = dict[Plain, Plain]

_TOKEN: Final = re.compile(
    r"""[\s,]++|;.*+
    |(?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
    |(?P<open>\#\{|[(\[{])|(?P<close>[)\]}])
    |(?P<prefix>\#_|\#[A-Za-z][^\s,;"()\[\]{}]*+)
    |(?P<char>\\(?:u[0-9A-Fa-f]{4}|[a-z]{2,}+|\S))
    |(?P<atom>[^\s,;"()\[\]{}\#\\@`~^][^\s,;"()\[\]{}\\]*+)""",
    re.VERBOSE,
)
_INT: Final = re.compile(r"[+-]?\d++N?", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?M?", re.ASCII)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", '"': '"'}
_CHARS: Final = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t", "formfeed": "\f", "backspace": "\b"}
_WORDS: Final[dict[str, bool | None]] = {"nil": None, "true": True, "false": False}
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}", "#{": "}"}


class HistoryError(LocalError):
    """A history that cannot be read. `line` is where, counted from 1; 0 if the file as a whole is meant."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


class _Frame:
    """What is open: a collection with its items so far, or a tag or `#_` that waits for the form behind it."""

    __slots__ = ("items", "line", "opener")

    def __init__(self, opener: str, line: int) -> None:
        self.opener = opener
        self.line = line
        self.items: list[Plain] = []


def read_records(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Record]]:
    """The maps of a file, each with the number of the line where it begins; one by one, or all in one vector or list.

    `lines` are numbered. Memory: one record and one line. HistoryError: this is no such file, or a bound was passed.
    """
    forms = _Forms(records=True)
    for line, text in lines:
        for start, value in forms.feed(line, text):
            if not isinstance(value, dict):
                raise HistoryError(start, f"expected a map such as {{:process 0, ...}}, found {shown(value)}")
            yield start, value
    forms.end()


def read_forms(line: int, text: str) -> Iterator[Plain]:
    """The forms of one line, one by one: what is behind the last one asked for is not read. HistoryError: as above."""
    forms = _Forms(records=False)
    for _, value in forms.feed(line, text):
        if not isinstance(value, dict):
            yield value
    forms.end()


def shown(value: object) -> str:
    """`value` as an error shows it: short, in one line, and nothing in it but printable characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."


def plain_set(items: Iterable[Plain]) -> tuple[Plain, ...]:
    """The items in an order of their own, so that equal sets and maps give equal tuples whatever order they came in."""
    return tuple(sorted(items, key=repr))


class _Forms:
    """Puts forms together from lines. With `records`, one vector or list round them all is looked through."""

    def __init__(self, records: bool) -> None:
        self._records = records
        self._outer: _Frame | None = None
        self._begun = self._ended = False
        self._stack: list[_Frame] = []
        self._chars = 0  # of the record so far
        self._start = 0  # the line where it began

    def feed(self, line: int, text: str) -> Iterator[tuple[int, Plain | Record]]:
        """The forms that this line completes, each with the number of the line where it began."""
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise HistoryError(line, _meaningless(text, position))
            position = match.end()
            if match.lastgroup is None:
                continue
            token = match[0]
            if not self._chars:
                self._start = line
            self._chars += len(token)
            if self._chars > RECORD_CHARS_MAX:
                raise HistoryError(line, f"one record is longer than {RECORD_CHARS_MAX} characters")
            begun, self._begun = self._begun, True
            if self._ended:
                raise HistoryError(line, "there is more behind the end of the history")
            match match.lastgroup:
                case "open" if self._records and not begun and token in ("[", "("):
                    self._outer = _Frame(token, line)
                    self._chars = 0
                case "open" | "prefix":
                    self._push(_Frame(token, line))
                case "close" if not self._stack:
                    self._close_outer(line, token)
                case "close":
                    value = self._collection(self._stack.pop(), line, token)
                    if self._put(value):
                        yield self._start, value
                case kind:
                    atom = _atom(line, kind, token)
                    if self._put(atom):
                        yield self._start, atom

    def end(self) -> None:
        """There are no more lines. HistoryError: something is still open."""
        frame = self._stack[0] if self._stack else None if self._ended else self._outer
        if frame is not None:
            raise HistoryError(frame.line, f"what {frame.opener!r} begins here has no end: the history was cut short")

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) == DEPTH_MAX:
            raise HistoryError(frame.line, f"nested more than {DEPTH_MAX} deep")
        self._stack.append(frame)

    def _close_outer(self, line: int, token: str) -> None:
        if self._outer is None or _CLOSERS[self._outer.opener] != token:
            raise HistoryError(line, f"{token!r} closes nothing")
        self._ended = True

    def _collection(self, frame: _Frame, line: int, token: str) -> Plain | Record:
        closer = _CLOSERS.get(frame.opener)
        if closer is None:
            raise HistoryError(line, f"{frame.opener!r} has nothing behind it")
        if closer != token:
            raise HistoryError(line, f"{token!r} cannot close what {frame.opener!r} of line {frame.line} began")
        items = frame.items
        if frame.opener == "#{":
            return plain_set(set(items))
        if frame.opener != "{":
            return tuple(items)
        if len(items) % 2:
            raise HistoryError(line, "a map has a key without a value")
        pairs = dict(zip(items[::2], items[1::2], strict=True))
        if len(pairs) * 2 != len(items):
            raise HistoryError(line, "a map has one key twice")
        return pairs if self._records and all(_is_prefix(outer) for outer in self._stack) else plain_set(pairs.items())

    def _put(self, value: Plain | Record) -> bool:
        """Put a form where it belongs. Whether it is inside of nothing."""
        kept = True
        while kept and self._stack and _is_prefix(self._stack[-1]):
            kept = self._stack.pop().opener != "#_"
        if not self._stack:
            self._chars = 0
            return kept
        if kept and not isinstance(value, dict):
            self._stack[-1].items.append(value)
        return False


def _is_prefix(frame: _Frame) -> bool:
    return frame.opener not in _CLOSERS


def _atom(line: int, kind: str | None, token: str) -> Plain:
    if token[0] == ":":
        return token[1:]
    if kind == "string":
        return _string(line, token[1:-1])
    if kind == "char":
        return _char(line, token[1:])
    if token in _WORDS:
        return _WORDS[token]
    if len(token) <= _DIGITS_MAX:
        if _INT.fullmatch(token):
            return int(token.rstrip("N"))
        if _FLOAT.fullmatch(token):
            return float(token.rstrip("M"))
    elif token[0].isdigit() or token[1].isdigit():
        raise HistoryError(line, f"a number of more than {_DIGITS_MAX} digits")
    return token


def _char(line: int, name: str) -> str:
    if name in _CHARS:
        return _CHARS[name]
    if len(name) == 1:
        return name
    if name[0] != "u" or len(name) != 5:
        raise HistoryError(line, f"the character \\{name} has no meaning in EDN")
    return _string(line, "\\" + name)


def _string(line: int, text: str) -> str:
    def escaped(match: re.Match[str]) -> str:
        escape = match[1]
        if len(escape) > 1:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPES:
            raise HistoryError(line, f"the text {shown(text)} has an escape \\{escape} that EDN does not know")
        return _ESCAPES[escape]

    if "\\" not in text:
        return text
    try:
        return _ESCAPE.sub(escaped, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise HistoryError(line, f"the text {shown(text)} has half of a character in it") from error


def _meaningless(text: str, position: int) -> str:
    where = f"column {position + 1}: "
    if text[position] == '"':
        return where + "the text that begins here has no end on this line: the history was cut short"
    if text[position:].strip() in ("#", "\\"):
        return where + "what begins here has no end: the history was cut short"
    return where + f"{shown(text[position : position + 1])} has no meaning here"
