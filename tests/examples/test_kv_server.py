"""The server's command line: each mistake is named before anything is served; and how reads are gathered."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kv_server
import pytest

from distkit.core import Outcome
from distkit.replica import ReplicaReply

NODE = ["--node=1", "--listen=127.0.0.1:0"]
CLIENTS = "--clients=127.0.0.1:0"


@pytest.fixture(autouse=True)
def _same_switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and what was said of a command line that must not start."""
    try:
        status = kv_server.main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    assert "serves clients" not in captured.out
    return status, captured.err


# -- the command line -------------------------------------------------------------------------------------------------


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        kv_server.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    options = (
        "--node --data --listen --peer --clients --connections --password-file --clients-tls-cert --clients-tls-key "
        "--http --key --tls-cert --tls-key --tls-ca --insecure --verbose"
    )
    for option in options.split():
        found = re.search(rf"^  {option}(?: [A-Z=:]+)?\s+\S.*", text, re.MULTILINE)
        assert found, f"{option} is not explained"
    assert "python examples/kv_server.py --node 1" in text
    assert "UNKNOWN says that nobody can tell" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: --node, --data, --listen, --clients"),
        (["--node=one"], "argument --node: invalid int value: 'one'"),
        (["--peer=127.0.0.1:7102"], "'127.0.0.1:7102' is not NODE=HOST:PORT, like 2=127.0.0.1:7102"),
        (["--peer=x=127.0.0.1:7102"], "is not NODE=HOST:PORT"),
        (["--peer=\u0662=127.0.0.1:7102"], "is not NODE=HOST:PORT"),
        (["--peer=1=127.0.0.1:7102"], "each node once: --node is 1, --peer names [1]"),
        (["--peer=2=127.0.0.1:7102", "--peer=2=127.0.0.1:7103"], "each node once"),
        (["--connections=0"], "--connections must be at least 1"),
        (["--connections=many"], "argument --connections: invalid int value"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_wrong_command_line_is_named_with_status_2(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = [*NODE, CLIENTS, f"--data={tmp_path}"] if words else []
    status, said = refused([*sound, *words], capsys)
    assert status == 2
    assert says in said
    assert said.startswith("usage: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--node=0"], "node"),
        (["--node=-1"], "node"),
        (["--listen=nowhere"], "HOST:PORT"),
        (["--listen=127.0.0.1:99999"], "HOST:PORT"),
        (["--clients=nowhere"], "HOST:PORT"),
        (["--peer=2=nowhere"], "HOST:PORT"),
        (["--listen=0.0.0.0:7101"], "--insecure"),
        (["--peer=2=10.1.2.3:7102"], "--insecure"),
        (["--clients=0.0.0.0:6401"], "--password-file"),
        (["--key=missing"], "missing"),
        (["--tls-cert=a.pem"], "TLS between the nodes needs --tls-cert, --tls-key and --tls-ca together"),
        (["--tls-cert=missing.pem", "--tls-key=missing.pem", "--tls-ca=missing.pem"], "missing.pem"),
        (["--clients-tls-key=a.pem"], "TLS for clients needs --clients-tls-cert and --clients-tls-key together"),
        (["--clients-tls-cert=missing.pem", "--clients-tls-key=missing.pem"], "can't be loaded from missing.pem"),
        (["--password-file=missing"], "the password file missing can't be read: No such file or directory"),
        (["--http=nowhere"], "HOST:PORT"),
    ],
)
def test_what_cannot_work_is_named_with_status_1(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = refused([*NODE, CLIENTS, "--data=data", *words], capsys)
    assert status == 1
    assert any(line.startswith("kv_server: ") and says in line for line in said.splitlines()), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [(b"secret", 0o644, "others can read the password file"), (b" \n", 0o600, "is empty")],
)
def test_a_password_file_that_protects_nothing_is_refused(
    content: bytes, mode: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(mode)
    status, said = refused([*NODE, CLIENTS, f"--data={tmp_path / 'data'}", f"--password-file={path}"], capsys)
    assert status == 1
    assert says in said
    assert str(path) in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["--clients", "--http"])
def test_an_address_that_is_taken_is_named(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = refused([*NODE, CLIENTS, f"--data={tmp_path / 'data'}", f"{flag}={address}"], capsys)
    assert status == 1
    assert f"served on {address}: Address already in use" in said


def test_clients_beyond_this_machine_need_protection_or_insistence(caplog: pytest.LogCaptureFixture) -> None:
    check = kv_server._check_clients_address
    for host in ("127.0.0.1", "localhost", "[::1]"):
        check(f"{host}:6401", False, False)
    check("0.0.0.0:6401", True, False)
    assert caplog.text == ""
    check("0.0.0.0:6401", False, True)
    assert "clients on 0.0.0.0:6401 need no password (--insecure)" in caplog.text


# -- reads of a turn ------------------------------------------------------------------------------------------


def test_all_reads_of_a_turn_share_one_position() -> None:
    asked: list[Callable[[ReplicaReply], None]] = []
    flushed: list[int] = []

    class Replica:
        def read_soon(self, done: Callable[[ReplicaReply], None]) -> None:
            asked.append(done)

        def flush(self) -> None:
            flushed.append(len(asked))

    service = kv_server.Service(Replica(), b"")  # type: ignore[arg-type]
    answered: list[tuple[int, ReplicaReply]] = []
    for number in range(3):
        service.read(lambda reply, number=number: answered.append((number, reply)))  # type: ignore[misc]
    assert asked == []
    service.turn_ended()
    service.turn_ended()
    assert flushed == [1, 1]
    reply = ReplicaReply(1, Outcome.READABLE)
    asked[0](reply)
    assert answered == [(0, reply), (1, reply), (2, reply)]
