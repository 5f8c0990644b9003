"""What a client says to the server itself: HELLO, AUTH, CLIENT, CONFIG, COMMAND, INFO, as hiredis reads the answers."""

from __future__ import annotations

import hiredis
import pytest
import resp
from redis_commands import COMMANDS as STORE_COMMANDS
from redis_connection import COMMANDS, NAME_BYTES_MAX, WRONG_PASSWORDS_MAX, Client, Server, run

FACTS = {"Server": {"redis_version": "7.0.15"}, "Replication": {"role": "master", "term": 3}}


def server(password: bytes = b"") -> Server:
    return Server("7.0.15", password, info=lambda: FACTS, role=lambda: "master")  # type: ignore[arg-type, return-value]


def client(authenticated: bool = True) -> Client:
    return Client(7, "127.0.0.1:50000", authenticated)


def ask(server: Server, client: Client, line: str | list[bytes]) -> object:
    """The answer as a client reads it; an error as its text."""
    arguments = resp.split_inline(line.encode()) if isinstance(line, str) else line
    assert arguments
    reader = hiredis.Reader()
    reader.feed(run(server, client, arguments))
    answer = reader.gets()
    assert reader.gets() is False
    return str(answer) if isinstance(answer, hiredis.ReplyError) else answer


def test_hello_names_the_server_and_changes_the_protocol() -> None:
    someone = client()
    flat = ask(server(), someone, "HELLO")
    assert isinstance(flat, list)
    expected = {
        b"server": b"redis",
        b"version": b"7.0.15",
        b"proto": 2,
        b"id": 7,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == expected
    assert ask(server(), someone, "hello 3") == {**expected, b"proto": 3}
    assert someone.protocol == 3
    assert isinstance(ask(server(), someone, "HELLO 2"), list)
    assert someone.protocol == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 AUTH default", "ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 SETNAME", "ERR Syntax error in HELLO option 'SETNAME'"),
        ("HELLO 3 SETNAME 'a b'", "ERR Client names cannot contain spaces, newlines or special characters."),
        ("HELLO 3 SETNAME new NONSENSE", "ERR Syntax error in HELLO option 'NONSENSE'"),
        (r'HELLO 3 "a\r\nb"', "ERR Syntax error in HELLO option 'A  B'"),
    ],
)
def test_a_hello_with_a_mistake_changes_nothing(line: str, says: str) -> None:
    someone = client()
    assert ask(server(), someone, line) == says
    assert (someone.protocol, someone.name) == (2, b"")


def test_hello_authenticates_names_and_chooses_the_protocol_at_once() -> None:
    someone = client(authenticated=False)
    answer = ask(server(b"secret"), someone, "HELLO 3 AUTH default secret SETNAME tester")
    assert isinstance(answer, dict)
    assert (someone.authenticated, someone.protocol, someone.name) == (True, 3, b"tester")


def test_hello_without_or_with_a_wrong_password_says_nothing_about_the_server() -> None:
    someone = client(authenticated=False)
    assert str(ask(server(b"secret"), someone, "HELLO 3")).startswith("NOAUTH HELLO must be called")
    wrong = "WRONGPASS invalid username-password pair or user is disabled."
    assert ask(server(b"secret"), someone, "HELLO 3 AUTH default guess SETNAME x") == wrong
    assert ask(server(b"secret"), someone, "HELLO 3 AUTH admin secret") == wrong
    assert (someone.authenticated, someone.protocol, someone.name) == (False, 2, b"")
    assert someone.wrong_passwords == 2


def test_auth_with_and_without_the_name_of_the_one_user() -> None:
    for line in ("AUTH secret", "AUTH default secret"):
        someone = client(authenticated=False)
        assert ask(server(b"secret"), someone, line) == b"OK"
        assert someone.authenticated
    someone = client(authenticated=False)
    for line in ("AUTH secre", "AUTH secrets", "AUTH ''", "AUTH admin secret"):
        assert str(ask(server(b"secret"), someone, line)).startswith("WRONGPASS")
    assert ask(server(b"secret"), someone, "AUTH a b c") == "ERR syntax error"
    assert not someone.authenticated
    assert not someone.quit
    ask(server(b"secret"), someone, "AUTH guess")
    assert someone.wrong_passwords == WRONG_PASSWORDS_MAX
    assert someone.quit


def test_a_password_that_nobody_asked_for_is_an_error() -> None:
    assert str(ask(server(), client(), "AUTH x")).startswith("ERR AUTH <password> called without any password")


def test_a_password_of_any_bytes() -> None:
    password = bytes(range(1, 256))
    someone = client(authenticated=False)
    assert ask(server(password), someone, [b"AUTH", password]) == b"OK"


def test_a_client_has_a_name_a_number_and_a_library() -> None:
    someone = client()
    assert ask(server(), someone, "CLIENT GETNAME") is None
    assert ask(server(), someone, "CLIENT SETNAME tester") == b"OK"
    assert ask(server(), someone, "client getname") == b"tester"
    assert ask(server(), someone, "CLIENT ID") == 7
    assert ask(server(), someone, "CLIENT SETINFO LIB-NAME redis-py") == b"OK"
    assert ask(server(), someone, "CLIENT SETINFO lib-ver 8.0") == b"OK"
    assert ask(server(), someone, "CLIENT INFO") == (
        b"id=7 addr=127.0.0.1:50000 name=tester resp=2 lib-name=redis-py lib-ver=8.0\n"
    )
    assert ask(server(), someone, "CLIENT SETNAME ''") == b"OK"
    assert ask(server(), someone, "CLIENT GETNAME") is None
    assert ask(server(), someone, "CLIENT NO-EVICT on") == b"OK"


@pytest.mark.parametrize(
    "line",
    [
        "CLIENT SETNAME 'a b'",
        "CLIENT SETNAME " + "x" * (NAME_BYTES_MAX + 1),
        "CLIENT SETINFO LIB-NAME 'a b'",
        "CLIENT SETINFO COLOUR red",
        "CLIENT SETINFO LIB-NAME",
        "CLIENT KILL 1",
        "CLIENT ID 1",
        r'CLIENT "\xff"',
    ],
)
def test_what_is_wrong_with_client_is_an_error_and_changes_nothing(line: str) -> None:
    someone = client()
    assert str(ask(server(), someone, line)).startswith("ERR ")
    assert (someone.name, someone.library) == (b"", {})


def test_ping_echo_select_and_quit() -> None:
    someone = client()
    assert ask(server(), someone, "PING") == b"PONG"
    assert ask(server(), someone, "PING hello") == b"hello"
    assert ask(server(), someone, [b"ECHO", b"\r\n\0"]) == b"\r\n\0"
    assert ask(server(), someone, "SELECT 0") == b"OK"
    assert str(ask(server(), someone, "SELECT 1")).startswith("ERR DB index is out of range")
    assert str(ask(server(), someone, "SELECT x")).startswith("ERR value is not an integer")
    assert not someone.quit
    assert ask(server(), someone, "QUIT") == b"OK"
    assert someone.quit


def test_config_get_finds_by_pattern_and_nothing_can_be_set() -> None:
    someone = client()
    assert ask(server(), someone, "CONFIG GET save") == [b"save", b""]
    assert ask(server(), someone, "CONFIG GET append* DATABASES") == [b"appendonly", b"yes", b"databases", b"1"]
    assert ask(server(), someone, "CONFIG GET nothing") == []
    someone.protocol = 3
    assert ask(server(), someone, "CONFIG GET maxmemory") == {b"maxmemory": b"0"}
    assert str(ask(server(), someone, "CONFIG SET save x")).startswith("ERR only CONFIG GET is supported")
    assert str(ask(server(), someone, "CONFIG GET")).startswith("ERR only CONFIG GET is supported")


def test_command_lists_what_the_store_does() -> None:
    someone = client()
    assert ask(server(), someone, "COMMAND COUNT") == len(STORE_COMMANDS) + len(COMMANDS)
    rows = ask(server(), someone, "COMMAND")
    assert isinstance(rows, list)
    assert sorted(row[0].upper() for row in rows) == sorted(STORE_COMMANDS)
    assert ask(server(), someone, "COMMAND INFO get SET mset del scan nosuch dbsize") == [
        [b"get", 2, [b"readonly"], 1, 1, 1],
        [b"set", -3, [b"write"], 1, 1, 1],
        [b"mset", -3, [b"write"], 1, -1, 2],
        [b"del", -2, [b"write"], 1, -1, 1],
        [b"scan", -2, [b"readonly"], 0, 0, 0],
        None,
        [b"dbsize", 1, [b"readonly"], 0, 0, 0],
    ]
    assert ask(server(), someone, "COMMAND DOCS") == []
    assert str(ask(server(), someone, "COMMAND GETKEYS GET x")).startswith("ERR unknown subcommand")


def test_info_has_sections_to_choose_from() -> None:
    whole = b"# Server\r\nredis_version:7.0.15\r\n\r\n# Replication\r\nrole:master\r\nterm:3\r\n"
    for line in ("INFO", "INFO all", "INFO everything", "INFO default"):
        assert ask(server(), client(), line) == whole
    assert ask(server(), client(), "INFO replication") == b"# Replication\r\nrole:master\r\nterm:3\r\n"
    assert ask(server(), client(), "INFO nothing") == b""


@pytest.mark.parametrize("line", ["AUTH", "CLIENT", "CONFIG", "ECHO", "ECHO a b", "PING a b", "SELECT", "SELECT 0 1"])
def test_a_wrong_number_of_arguments_is_named(line: str) -> None:
    name = line.split()[0].lower()
    assert ask(server(), client(), line) == f"ERR wrong number of arguments for '{name}' command"
