"""Mutual TLS: who has no certificate of this cluster's authority for the node it claims to be gets nowhere."""

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from transport_nodes import KEY, Letter, Node, connect, run, run_virtual, serving

from distkit.core import LocalError
from distkit.transport import Credentials, Handshake, Hello, RefusalCode, TlsFiles

AUTHORITY = trustme.CA()
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def files(folder: Path, certificate: trustme.LeafCert, authority: trustme.CA = AUTHORITY, **options: Any) -> TlsFiles:
    """The PEM files of one node."""
    folder.mkdir(parents=True, exist_ok=True)
    found = TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem", **options)
    found.certificate.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    found.key.write_bytes(certificate.private_key_pem.bytes())
    found.key.chmod(0o600)
    authority.cert_pem.write_to_path(str(found.authority))
    return found


def node(
    folder: Path, number: int, certificate: trustme.LeafCert | None = None, key: bytes | None = None, **options: Any
) -> Node:
    own = certificate or AUTHORITY.issue_cert(f"node-{number}.distkit")
    return Node(number, credentials=Credentials(key, files(folder / str(number), own, **options)))


def made_by_hand(usage: x509.ObjectIdentifier | None, *names: x509.GeneralName) -> trustme.LeafCert:
    """A leaf of the authority with exactly this usage and these names, which trustme does not make."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node-2.distkit")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)  # type: ignore[arg-type]
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    certificate = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return trustme.LeafCert(private, certificate.public_bytes(pem), [])


# -- success ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY])
def test_nodes_with_certificates_talk(tmp_path: Path, key: bytes | None) -> None:
    async def main() -> None:
        by_uri = made_by_hand(None, x509.UniformResourceIdentifier("distkit://node/2"))
        one, two = node(tmp_path, 1, key=key), node(tmp_path, 2, by_uri, key=key)
        two.answering = True
        letters = [Letter(i, bytes(size)) for i, size in enumerate((0, 1, 16_384, 65_536, 1 << 20, 3 << 20, 100))]
        async with serving(one, two):
            for letter in letters:
                assert one.send(2, letter)
            await one.until(lambda: len(one.letters) == len(letters))
            assert [letter for _, _, letter in one.letters] == letters
            async with await one.transport.open_bulk(2) as stream:
                await stream.send(Letter(1, bytes(2_000_000)))
                assert await stream.receive() == Letter(1, bytes(2_000_000))
            status = two.transport.status()
            assert status.outbox_bytes == 0
            two.stop()
            await one.until(lambda: one.events.count(("lost", 2, "reset")) == 2)

    run(main)


def test_a_peer_that_never_reads_is_bounded_under_tls_too(tmp_path: Path) -> None:
    async def main() -> None:
        one = node(tmp_path, 1)
        context = two_context(tmp_path)
        async with serving(one):
            stream = trio.SSLStream(await connect(one.address), context, server_hostname="node-1.distkit")
            await stream.do_handshake()
            await join_over(stream, one, None)
            await one.saw("hello", 2, 1)
            while one.transport.reply(2, Letter(0, bytes(1 << 20))):
                one.transport.flush()
            assert one.transport.status().outbox_bytes <= 64 << 20
            await one.saw("lost", 2, "timeout")
            await trio.aclose_forcefully(stream)

    run_virtual(main)


def two_context(folder: Path) -> ssl.SSLContext:
    """The client side of node 2."""
    context = Credentials(tls=files(folder / "raw", AUTHORITY.issue_cert("node-2.distkit"))).client_context()
    assert context is not None
    return context


async def join_over(stream: trio.abc.Stream, one: Node, key: bytes | None) -> None:
    names = frozenset({("DNS", "node-1.distkit")})
    hello = Hello(7, 2, 22, 1, None, ())
    handshake = Handshake(hello, bytes(32), lambda hello: None, key=key, names=names, expected=1)
    while not handshake.done:
        if data := handshake.take():
            await stream.send_all(data)
        handshake.receive(bytes(await stream.receive_some(10_000)))
    await stream.send_all(handshake.take())


# -- false certificates: none of them changes anything, and nobody is believed ---------------------------------------


def bad_certificates() -> dict[str, Any]:
    other = trustme.CA()
    name = "node-2.distkit"
    return {
        "expired": AUTHORITY.issue_cert(name, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        "not yet valid": AUTHORITY.issue_cert(name, not_before=NOW + DAY, not_after=NOW + 9 * DAY),
        "other authority": other.issue_cert(name),
        "client only": made_by_hand(ExtendedKeyUsageOID.CLIENT_AUTH, x509.DNSName(name)),
        "server only": made_by_hand(ExtendedKeyUsageOID.SERVER_AUTH, x509.DNSName(name)),
        "node 3's": AUTHORITY.issue_cert("node-3.distkit"),
        "no name at all": made_by_hand(None),
        "only a common name": AUTHORITY.issue_cert(common_name=name),
        "only an address": AUTHORITY.issue_cert("127.0.0.1", "localhost"),
        "a wildcard": AUTHORITY.issue_cert("*.distkit"),
    }


BAD = bad_certificates()


@pytest.mark.parametrize("fault", BAD)
def test_a_node_with_a_false_certificate_is_not_let_in(tmp_path: Path, fault: str) -> None:
    """Node 1 is sound. Node 2 is not: it may neither dial node 1 nor be dialled, in whichever role its fault shows."""

    async def main() -> None:
        one, two = node(tmp_path, 1), node(tmp_path, 2, BAD[fault])
        one_way = {"client only": [1], "server only": [2]}.get(fault, [])  # the role that this certificate does allow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, {2: two.address})
            nursery.start_soon(two.serve, {1: one.address})
            await trio.sleep(3)
            assert one.transport.connected(2) is (one_way == [2])
            assert two.transport.connected(1) is (one_way == [1])
            assert one.letters == []
            if not one_way:
                assert {event[0] for event in one.events} <= {"refused"}
                for event in one.events:
                    assert event[2:] == (RefusalCode.BAD_CREDENTIALS, False, False) or event[3], "never authenticated"
            status = one.transport.status()
            assert status.refusals or status.failures
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_a_revoked_certificate_is_refused_in_both_roles(tmp_path: Path) -> None:
    certificate = AUTHORITY.issue_cert("node-2.distkit")
    serial = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).serial_number
    issuer = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
    signer = serialization.load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(NOW - DAY)
    crl = builder.next_update(NOW + DAY).add_revoked_certificate(revoked).sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    path = tmp_path / "revoked.pem"
    path.write_bytes(crl.public_bytes(serialization.Encoding.PEM))

    async def main() -> None:
        one, two = node(tmp_path, 1, revoked=path), node(tmp_path, 2, certificate)
        three = node(tmp_path, 3)
        everybody = {1: one.address, 2: two.address, 3: three.address}
        async with trio.open_nursery() as nursery:
            for each in (one, two, three):
                nursery.start_soon(each.serve, everybody)
            await trio.sleep(3)
            assert not one.transport.connected(2)
            assert not two.transport.connected(1)
            assert one.transport.connected(3)
            assert three.transport.connected(1)
            assert two.transport.connected(3), "node 3 was not given the list"
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_the_right_certificate_without_the_shared_key_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = node(tmp_path, 1, key=KEY), node(tmp_path, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, {2: two.address})
            nursery.start_soon(two.serve, {1: one.address})
            await one.saw("refused", 0, RefusalCode.BAD_CREDENTIALS, False, False)
            assert not one.transport.connected(2)
            nursery.cancel_scope.cancel()

    run(main)


# -- no TLS where TLS belongs -----------------------------------------------------------------------------------------


def test_plain_and_tls_do_not_mix(tmp_path: Path) -> None:
    async def main() -> None:
        one, plain = node(tmp_path, 1), Node(2, credentials=Credentials())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, {2: plain.address})
            nursery.start_soon(plain.serve, {1: one.address})
            await trio.sleep(3)
            assert not one.transport.connected(2)
            assert not plain.transport.connected(1)
            assert dict(one.transport.status().failures)["nonsense"] > 0
            assert dict(plain.transport.status().refusals)["NONSENSE"] > 0
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_a_tls_handshake_that_stops_is_closed_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        one = node(tmp_path, 1)
        async with serving(one), await connect(one.address) as raw:
            begun = trio.current_time()
            await raw.send_all(b"\x16\x03\x01")
            assert await raw.receive_some() == b""
            assert trio.current_time() - begun == pytest.approx(5, abs=0.5)
            assert one.transport.status().failures == (("timeout", 1),)

    run_virtual(main)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
def test_tls_before_1_2_and_clients_without_certificate_are_refused(tmp_path: Path, maximum: ssl.TLSVersion) -> None:
    async def main() -> None:
        one = node(tmp_path, 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = maximum
        AUTHORITY.configure_trust(context)
        async with serving(one):
            stream = trio.SSLStream(await connect(one.address), context, server_hostname="node-1.distkit")
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
            await trio.aclose_forcefully(stream)
            await trio.testing.wait_all_tasks_blocked()
            assert one.transport.status().failures == (("nonsense", 1),)
            assert one.events == []

    run(main)


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_local_errors(tmp_path: Path) -> None:
    good = files(tmp_path, AUTHORITY.issue_cert("node-1.distkit"))
    assert Credentials(tls=good).server_context() is not None
    good.key.chmod(0o644)
    with pytest.raises(LocalError, match="chmod 600"):
        Credentials(tls=good).server_context()
    good.key.chmod(0o600)
    good.authority.write_text("not a certificate")
    with pytest.raises(LocalError, match=r"authority\.pem"):
        Credentials(tls=good).client_context()
    with pytest.raises(LocalError, match="cannot be loaded"):
        Credentials(tls=TlsFiles(*[tmp_path / "absent"] * 3)).client_context()
