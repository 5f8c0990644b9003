"""What a Redis client says to the server itself rather than to the store: HELLO, AUTH, CLIENT, INFO and the like.

Each command is a pure function of the server's facts and the client's record; nothing here waits or is replicated.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import resp
from redis_commands import COMMANDS as STORE_COMMANDS

__all__ = ["BEFORE_AUTHENTICATION", "COMMANDS", "NOT_AUTHENTICATED", "Client", "Server", "run", "wrong_arity"]

NAME_BYTES_MAX = 256
#: A connection is closed after so many wrong passwords.
WRONG_PASSWORDS_MAX = 5
NOT_AUTHENTICATED = resp.error("NOAUTH Authentication required.")
BEFORE_AUTHENTICATION = frozenset((b"AUTH", b"HELLO", b"QUIT"))
_WRONG_PASSWORD = resp.error("WRONGPASS invalid username-password pair or user is disabled.")
_NOT_AN_INTEGER = resp.error("ERR value is not an integer or out of range")


@dataclass
class Server:
    """Facts of this server. `password` is empty when none is asked for; `info` gives the sections of INFO."""

    version: str
    password: bytes = b""
    info: Callable[[], dict[str, dict[str, object]]] = dict
    role: Callable[[], str] = lambda: "replica"


@dataclass
class Client:
    """What the server remembers of a connection."""

    number: int
    peer: str
    authenticated: bool
    protocol: int = 2
    name: bytes = b""
    library: dict[bytes, bytes] = field(default_factory=dict)
    quit: bool = False
    wrong_passwords: int = 0


Run = Callable[[Server, Client, Sequence[bytes]], bytes]


def run(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    """Answer a command of `COMMANDS`."""
    name = arguments[0].upper()
    arity, command = COMMANDS[name]
    if len(arguments) != arity and (arity > 0 or len(arguments) < -arity):
        return wrong_arity(name)
    return command(server, client, arguments)


def wrong_arity(name: bytes) -> bytes:
    """Redis's words for a wrong number of arguments."""
    return resp.error(f"ERR wrong number of arguments for '{name.decode('ascii', 'replace').lower()}' command")


def _ping(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    if len(arguments) > 2:
        return wrong_arity(b"ping")
    return resp.bulk(arguments[1]) if len(arguments) == 2 else resp.simple("PONG")


def _echo(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    return resp.bulk(arguments[1])


def _quit(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    client.quit = True
    return resp.OK


def _select(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    number = resp.parse_integer(arguments[1])
    if number is None:
        return _NOT_AN_INTEGER
    return resp.OK if number == 0 else resp.error("ERR DB index is out of range: there is one database, 0")


def _auth(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    if len(arguments) > 3:
        return resp.error("ERR syntax error")
    user = arguments[1] if len(arguments) == 3 else b"default"
    return _authenticate(server, client, user, arguments[-1]) or resp.OK


def _authenticate(server: Server, client: Client, user: bytes, password: bytes) -> bytes | None:
    """The error, or None when the client is in."""
    if not server.password:
        return resp.error("ERR AUTH <password> called without any password configured for the default user.")
    right = hmac.compare_digest(server.password, password)
    if user != b"default" or not right:
        client.wrong_passwords += 1
        client.quit = client.wrong_passwords >= WRONG_PASSWORDS_MAX
        return _WRONG_PASSWORD
    client.authenticated = True
    return None


def _hello(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    protocol, name = client.protocol, client.name
    rest = list(arguments[1:])
    if rest:
        version = resp.parse_integer(rest.pop(0))
        if version is None:
            return resp.error("ERR Protocol version is not an integer or out of range")
        if version not in resp.NULL:
            return resp.error("NOPROTO unsupported protocol version")
        protocol = version
    while rest:
        option = rest.pop(0).upper()
        if option == b"AUTH" and len(rest) >= 2:
            failure = _authenticate(server, client, rest.pop(0), rest.pop(0))
            if failure is not None:
                return failure
        elif option == b"SETNAME" and rest:
            name = rest.pop(0)
            if not _is_name(name):
                return _BAD_NAME
        else:
            return resp.error("ERR Syntax error in HELLO option '" + option.decode("ascii", "replace") + "'")
    if not client.authenticated:
        return resp.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
            "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at "
            "the same time"
        )
    client.protocol, client.name = protocol, name
    facts = [
        (resp.bulk(b"server"), resp.bulk(b"redis")),
        (resp.bulk(b"version"), resp.bulk(server.version.encode())),
        (resp.bulk(b"proto"), resp.integer(protocol)),
        (resp.bulk(b"id"), resp.integer(client.number)),
        (resp.bulk(b"mode"), resp.bulk(b"standalone")),
        (resp.bulk(b"role"), resp.bulk(server.role().encode())),
        (resp.bulk(b"modules"), resp.array([])),
    ]
    return resp.mapping(facts, protocol)


_BAD_NAME = resp.error("ERR Client names cannot contain spaces, newlines or special characters.")


def _is_name(name: bytes) -> bool:
    return len(name) <= NAME_BYTES_MAX and all(33 <= byte <= 126 for byte in name)


def _client(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    word, rest = arguments[1].upper(), arguments[2:]
    if word == b"ID" and not rest:
        return resp.integer(client.number)
    if word == b"GETNAME" and not rest:
        return resp.bulk(client.name) if client.name else resp.NULL[client.protocol]
    if word == b"SETNAME" and len(rest) == 1:
        if not _is_name(rest[0]):
            return _BAD_NAME
        client.name = rest[0]
        return resp.OK
    if word == b"SETINFO" and len(rest) == 2:
        attribute = rest[0].upper()
        if attribute not in (b"LIB-NAME", b"LIB-VER"):
            return resp.error("ERR Unrecognized option '" + attribute.decode("ascii", "replace") + "'")
        if not _is_name(rest[1]):
            return _BAD_NAME
        client.library[attribute] = rest[1]
        return resp.OK
    if word == b"INFO" and not rest:
        return resp.bulk(_client_line(client))
    if word in (b"NO-EVICT", b"NO-TOUCH") and len(rest) == 1:
        return resp.OK
    shown = arguments[1].decode("ascii", "replace")
    return resp.error(f"ERR unknown subcommand or wrong number of arguments for '{shown}' (CLIENT)")


def _client_line(client: Client) -> bytes:
    library = client.library
    return b"id=%d addr=%s name=%s resp=%d lib-name=%s lib-ver=%s\n" % (
        client.number,
        client.peer.encode(),
        client.name,
        client.protocol,
        library.get(b"LIB-NAME", b""),
        library.get(b"LIB-VER", b""),
    )


def _command(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    word = arguments[1].upper() if len(arguments) > 1 else b""
    if word == b"COUNT" and len(arguments) == 2:
        return resp.integer(len(STORE_COMMANDS) + len(COMMANDS))
    if word == b"DOCS":
        return resp.mapping([], client.protocol)
    if word in (b"", b"INFO"):
        names = [name.upper() for name in arguments[2:]] or sorted(STORE_COMMANDS)
        rows = (_command_row(name, client.protocol) for name in names)
        return resp.array(list(rows))
    return resp.error("ERR unknown subcommand: COMMAND, COMMAND COUNT, COMMAND DOCS and COMMAND INFO are there")


#: Positions of the first and the last key and the step between keys, where it is not one key behind the name.
_KEYS = {
    **dict.fromkeys((b"DBSIZE", b"FLUSHALL", b"FLUSHDB", b"KEYS", b"SCAN"), (0, 0, 0)),
    **dict.fromkeys((b"DEL", b"EXISTS", b"MGET", b"UNLINK"), (1, -1, 1)),
    b"MSET": (1, -1, 2),
}


def _command_row(name: bytes, protocol: int) -> bytes:
    command = STORE_COMMANDS.get(name)
    if command is None:
        return resp.NULL[protocol]
    flags = resp.array([resp.simple("write" if command.is_write else "readonly")])
    numbers = [resp.integer(number) for number in _KEYS.get(name, (1, 1, 1))]
    return resp.array([resp.bulk(name.lower()), resp.integer(command.arity), flags, *numbers])


#: What clients ask for; the store has nothing to configure at run time.
_CONFIGURATION = {b"save": b"", b"appendonly": b"yes", b"maxmemory": b"0", b"databases": b"1", b"timeout": b"0"}


def _config(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    if arguments[1].upper() != b"GET" or len(arguments) < 3:
        return resp.error("ERR only CONFIG GET is supported: options are set on the command line of the server")
    patterns = [pattern.decode("utf-8", "replace").lower() for pattern in arguments[2:]]
    found = [
        (resp.bulk(name), resp.bulk(value))
        for name, value in _CONFIGURATION.items()
        if any(fnmatchcase(name.decode(), pattern) for pattern in patterns)
    ]
    return resp.mapping(found, client.protocol)


def _info(server: Server, client: Client, arguments: Sequence[bytes]) -> bytes:
    wanted = {name.decode("utf-8", "replace").lower() for name in arguments[1:]} - {"default", "all", "everything"}
    sections = [
        "\r\n".join([f"# {title}", *(f"{name}:{value}" for name, value in facts.items()), ""])
        for title, facts in server.info().items()
        if not wanted or title.lower() in wanted
    ]
    return resp.bulk("\r\n".join(sections).encode())


#: name -> (arity as Redis counts it: the name included, negative for "at least", function)
COMMANDS: dict[bytes, tuple[int, Run]] = {
    b"AUTH": (-2, _auth),
    b"CLIENT": (-2, _client),
    b"COMMAND": (-1, _command),
    b"CONFIG": (-2, _config),
    b"ECHO": (2, _echo),
    b"HELLO": (-1, _hello),
    b"INFO": (-1, _info),
    b"PING": (-1, _ping),
    b"QUIT": (-1, _quit),
    b"SELECT": (2, _select),
}
