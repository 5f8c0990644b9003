"""Addresses, key files, and the rule that strangers must not be able to pose as peers."""

import logging
from pathlib import Path

import pytest

from distkit.core import LocalError
from distkit.transport import (
    Credentials,
    TlsFiles,
    check_addresses,
    is_loopback,
    join_address,
    split_address,
)

KEY = b"0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:7101", "127.0.0.1", 7101), ("[::1]:0", "::1", 0), ("node-1.example:65535", "node-1.example", 65535)],
)
def test_addresses_are_split_and_joined(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert join_address(host, port) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:\u0661",
        "::1:7101",
        "a..b:1",
        "a" * 64 + ":1",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(LocalError):
        split_address(address)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "addresses", [("0.0.0.0:1", "127.0.0.1:2"), ("127.0.0.1:1", "10.0.0.2:2"), ("[::]:1", "[::1]:2")]
)
def test_without_credentials_every_address_is_loopback(
    addresses: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    listen, peer = addresses
    with pytest.raises(LocalError, match="--insecure"):
        check_addresses(Credentials(), listen, [peer])
    check_addresses(Credentials(KEY), listen, [peer])
    check_addresses(Credentials(tls=TlsFiles(Path("c"), Path("k"), Path("a"))), listen, [peer])
    check_addresses(Credentials(), "127.0.0.1:1", ["localhost:2", "[::1]:3"])
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_addresses(Credentials(insecure=True), listen, [peer])
    assert "not authenticated" in caplog.text


def test_a_key_file_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    for mode in (0o640, 0o604, 0o660, 0o644):
        path.chmod(mode)
        with pytest.raises(LocalError, match="chmod 600"):
            Credentials.load(path)
    path.chmod(0o600)
    assert Credentials.load(path).key == KEY
    path.write_bytes(KEY[:31])
    with pytest.raises(LocalError, match="32 bytes"):
        Credentials.load(path)
    with pytest.raises(LocalError, match="cannot be read"):
        Credentials.load(tmp_path / "absent")
    assert Credentials.load().key is None


def test_the_key_is_in_no_repr() -> None:
    assert "0123" not in repr(Credentials(KEY)) + str(Credentials(KEY))
