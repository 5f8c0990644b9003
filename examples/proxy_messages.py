"""HTTP/1.1 messages as the proxy understands them: bytes in, heads and pieces of bodies out, and heads back to bytes.

llhttp (the parser of Node.js, by httptools) reads what arrives; nothing is forwarded as it came. A head is written anew
from what was understood, so that the next server can't understand it differently (RFC 9112, section 11.2): one framing,
no header of the last hop, no line that only some parsers accept.
"""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus
from typing import Final

import httptools

from distkit.balance import retries

TARGET_BYTES_MAX = 16 << 10
HEADERS_MAX = 128
#: What a client or a server may send before its head is complete.
HEAD_BYTES_MAX = 64 << 10
IDEMPOTENT: Final = frozenset(method.encode() for method in retries.IDEMPOTENT)
#: Meant for the next hop only (RFC 9110, section 7.6.1).
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
#: What of a head is not forwarded, because it is told anew.
ANEW: Final = HOP_BY_HOP | {b"content-length"}
#: A name or address and a port, of the characters that RFC 3986 allows there.
_AUTHORITY: Final = re.compile(rb"[\w.~!$&'()*+;=%\[\]:-]*", re.ASCII)
#: What nearly all Connection headers say.
_NAMES_NOTHING: Final = ([b"keep-alive"], [b"close"], [b"Keep-Alive"])
_STATUS_LINES: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}".encode() for each in HTTPStatus}


class BadMessage(Exception):
    """The bytes are not what may be forwarded; `status` is what a client is told."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


class Head:
    """The start of a request or a response. Names of headers are in lower case, in the order in which they came."""

    __slots__ = ("chunked", "headers", "keep_alive", "length", "method", "status", "target", "upgrade", "version")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.status = 0
        self.version = "1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        #: Bytes of the body if they are told in advance.
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        #: The protocol that the sender asks to change to, or changes to; only websocket is carried.
        self.upgrade = b""

    def get(self, name: bytes) -> bytes | None:
        """The first header of this name (lower case)."""
        for each, value in self.headers:
            if each == name:
                return value
        return None


#: What `Reader.events` has after the last piece of a body.
END: Final = None
Event = Head | bytes | None


class Reader:
    """Messages out of the bytes of one connection: each a Head, pieces of its body (bytes), and END.

    `requests` tells which kind. A reader of responses serves for one response, because only the request tells whether a
    body follows: after a HEAD none does.
    """

    __slots__ = (
        "_head",
        "_in_head",
        "_open",
        "_parser",
        "_requests",
        "_resumed",
        "_unseen",
        "events",
        "failure",
        "raw",
    )

    def __init__(self, requests: bool) -> None:
        self._requests = requests
        self._parser = self._new_parser()
        self._head = Head()
        self._in_head = True
        self._open = False
        self._resumed = False
        #: Bytes since the last event: those of a head, of trailers, of what stands between chunks.
        self._unseen = 0
        self.events: deque[Event] = deque()
        #: What is wrong with the bytes behind `events`. Whoever has taken them calls `check`.
        self.failure: BadMessage | None = None
        #: What follows a message that changes the protocol.
        self.raw = b""

    def _new_parser(self) -> httptools.HttpRequestParser | httptools.HttpResponseParser:
        return httptools.HttpRequestParser(self) if self._requests else httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises BadMessage, but only if there are no events to be seen before it."""
        self._unseen += len(data)
        try:
            self._parse(data)
        except BadMessage as error:
            self.failure = error
        if self._unseen > HEAD_BYTES_MAX and self.failure is None:
            self.failure = BadMessage(431, f"more than {HEAD_BYTES_MAX} bytes of a head, or of nothing")
        if not self.events:
            self.check()

    def check(self) -> None:
        """Raise what was wrong behind the last event."""
        if self.failure is not None:
            raise self.failure

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgraded:
            self._pass_upgrade(data[upgraded.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, BadMessage):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise BadMessage(400, str(error)) from None

    def _pass_upgrade(self, rest: bytes) -> None:
        """The parser ends where another protocol may begin, even before a body. Go on, if it is one we don't carry."""
        head = self._head
        if head.upgrade or not self._requests:
            self.raw = rest
            return
        self._parser = self._new_parser()
        if head.chunked or head.length:
            framing = b"Transfer-Encoding: chunked" if head.chunked else b"Content-Length: %d" % (head.length or 0)
            self._resumed = True
            self._parse(b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % framing)
            self._resumed = False
        self._parse(rest)

    @property
    def begun(self) -> bool:
        """Some bytes of a message have come that is not complete."""
        return self._open or self._unseen > 0

    # -- what the parser calls ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._open = True
        if not self._resumed:
            self._head = Head()

    def on_url(self, part: bytes) -> None:
        if self._resumed:
            return
        self._head.target += part
        if len(self._head.target) > TARGET_BYTES_MAX:
            raise BadMessage(414, f"the target is longer than {TARGET_BYTES_MAX} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head or self._resumed:
            return  # a trailer: it may be dropped (RFC 9110, section 6.5.1)
        headers = self._head.headers
        if len(headers) == HEADERS_MAX:
            raise BadMessage(431, f"more than {HEADERS_MAX} headers")
        headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unseen = 0
        if self._resumed:
            return
        head, parser = self._head, self._parser
        head.version = parser.get_http_version()
        head.keep_alive = parser.should_keep_alive()
        _understand(head)
        if isinstance(parser, httptools.HttpRequestParser):
            head.method = parser.get_method()
            _check_request(head)
            upgrades = parser.should_upgrade() and not head.chunked and not head.length and head.version == "1.1"
        else:
            head.status = parser.get_status_code()
            upgrades = head.status == 101
        if not upgrades:
            head.upgrade = b""
        elif head.upgrade:
            head.keep_alive = False  # the parser ends here, whatever the answer is
        self.events.append(head)

    def on_body(self, data: bytes) -> None:
        self._unseen = 0
        self.events.append(data)

    def on_message_complete(self) -> None:
        self._unseen = 0
        head = self._head
        if self._requests and not self._resumed and self._parser.should_upgrade() and (head.chunked or head.length):
            return  # the parser passes over the body: `_pass_upgrade`
        self._open = False
        self._in_head = True
        self.events.append(END)


def _understand(head: Head) -> None:
    """Take out of the headers what tells the length of the body and what becomes of the connection."""
    for name, value in head.headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or head.length not in (None, int(value)):
                raise BadMessage(400, "Content-Length is not one number")
            head.length = int(value)
        elif name == b"transfer-encoding":
            if head.chunked or value.strip(b" \t").lower() != b"chunked":
                raise BadMessage(501, "only the transfer encoding chunked is understood")
            head.chunked = True
        elif name == b"upgrade" and value.lower() == b"websocket":
            head.upgrade = value
    if head.chunked and head.length is not None:
        raise BadMessage(400, "both Content-Length and Transfer-Encoding")


def _check_request(head: Head) -> None:
    if head.version not in ("1.1", "1.0"):
        raise BadMessage(505, f"HTTP/{head.version} is not spoken here")
    if head.method == b"CONNECT":
        raise BadMessage(405, "this is not a forward proxy")
    if head.chunked and head.version == "1.0":
        raise BadMessage(400, "HTTP/1.0 has no chunks")
    hosts = sum(name == b"host" for name, _ in head.headers)
    if hosts > 1 or (hosts == 0 and head.version == "1.1"):
        raise BadMessage(400, "one Host header is needed")
    if not head.target.startswith(b"/") and (head.target != b"*" or head.method != b"OPTIONS"):
        _to_origin_form(head)
    if not _AUTHORITY.fullmatch(head.get(b"host") or b""):
        raise BadMessage(400, "the Host header is no name and port")


def _to_origin_form(head: Head) -> None:
    """A whole URL as target takes the place of Host (RFC 9112, section 3.2.2)."""
    scheme, mark, rest = head.target.partition(b"://")
    end = next((place for place, each in enumerate(rest) if each in b"/?#"), len(rest))
    if not mark or scheme.lower() not in (b"http", b"https") or not end:
        raise BadMessage(400, "the target is neither a path nor an http URL")
    path = rest[end:]
    head.target = path if path.startswith(b"/") else b"/" + path
    if not path and head.method == b"OPTIONS":
        head.target = b"*"
    head.headers = [(b"host", rest[:end]), *(each for each in head.headers if each[0] != b"host")]


def forwarded(head: Head, anew: frozenset[bytes] = ANEW) -> list[tuple[bytes, bytes]]:
    """The headers that go on to the next hop, without those that are told `anew`."""
    connection = [value for name, value in head.headers if name == b"connection"]
    if connection and connection not in _NAMES_NOTHING:
        named = frozenset(each.strip().lower() for value in connection for each in value.split(b","))
        anew = anew.union(named - {b"host"})
    return [each for each in head.headers if each[0] not in anew]


def status_line(status: int) -> bytes:
    """The first line of a response; a status that nobody knows has no phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def encode_head(first: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A head as bytes: the first line, and each header with its name as it is here."""
    lines = [first]
    for name, value in headers:
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def chunk(data: bytes) -> bytes:
    """A piece of a body in the transfer encoding chunked; the last is `LAST_CHUNK`."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def answer(
    status: int, text: str, *, kind: bytes = b"text/plain; charset=utf-8", close: bool, empty: bool = False
) -> bytes:
    """A whole response of the proxy's own."""
    body = text.encode()
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    if close:
        headers.append((b"connection", b"close"))
    return encode_head(status_line(status), headers) + (b"" if empty else body)
