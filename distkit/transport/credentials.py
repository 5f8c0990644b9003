"""How ends prove who they are: a shared key, certificates, both, or nothing on the loopback interface.

A shared key is a mutual challenge (see `hello`): it authenticates the ends of a connection on a trusted network, it
does not protect what is said afterwards. Across untrusted links use mutual TLS. There every node has a certificate,
signed by the cluster's own authority, whose subject alternative names hold the DNS name ``node-<id>.distkit`` or the
URI ``distkit://node/<id>``; the common name, host names and reverse DNS are never looked at. A certificate with
extended key usages needs both serverAuth and clientAuth, because a node is dialled and dials.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path

from distkit.core import LocalError, record
from distkit.transport.addresses import is_loopback, split_address

logger = logging.getLogger(__name__)

#: A shorter shared key is refused.
KEY_BYTES_MIN = 32

#: Subject alternative names of a certificate, as (type, value).
CertificateNames = frozenset[tuple[str, str]]


@record
class TlsFiles:
    """PEM files: this node's certificate (chain) and private key, and the authority that signs all nodes' certificates.

    `revoked` is a certificate revocation list of that authority; without it revocation is not checked.
    """

    certificate: Path
    key: Path
    authority: Path
    revoked: Path | None = None


@record
class Credentials:
    """What this node proves itself with. `insecure` allows neither key nor certificates beyond loopback.

    The key is in no repr and no log. LocalError for a key of less than 32 bytes.
    """

    key: bytes | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) < KEY_BYTES_MIN:
            raise LocalError(f"a shared key has at least {KEY_BYTES_MIN} bytes: head -c 32 /dev/urandom > FILE")

    @staticmethod
    def load(key_file: Path | None = None, tls: TlsFiles | None = None, insecure: bool = False) -> Credentials:
        """Credentials whose shared key is the content of a file that only its owner may read. LocalError otherwise."""
        return Credentials(None if key_file is None else _secret(key_file), tls, insecure)

    def client_context(self) -> ssl.SSLContext | None:
        """What this node dials with, None without certificates."""
        return None if self.tls is None else _context(ssl.PROTOCOL_TLS_CLIENT, self.tls)

    def server_context(self) -> ssl.SSLContext | None:
        """What this node answers with, None without certificates."""
        return None if self.tls is None else _context(ssl.PROTOCOL_TLS_SERVER, self.tls)


def certifies(names: CertificateNames, node: int) -> bool:
    """Whether a certificate with these names belongs to the node."""
    return ("DNS", f"node-{node}.distkit") in names or ("URI", f"distkit://node/{node}") in names


def check_addresses(credentials: Credentials, listen: str, peers: Iterable[str]) -> None:
    """Raise LocalError when strangers could pose as peers: no credentials, and an address beyond loopback."""
    open_to_all = [address for address in (listen, *peers) if not is_loopback(split_address(address)[0])]
    if credentials.key is not None or credentials.tls is not None or not open_to_all:
        return
    if not credentials.insecure:
        raise LocalError(
            f"{open_to_all[0]} is not a loopback address, and there is neither a shared key nor certificates: anybody "
            "who reaches it could pose as a member. Give every node the same key file, or certificates; "
            "or accept the risk with --insecure"
        )
    logger.warning("insecure: peers are not authenticated, and %s is reachable from other machines", open_to_all[0])


def _secret(path: Path) -> bytes:
    try:
        _check_private(path)
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"the key file cannot be read: {error}") from None


def _check_private(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise LocalError(f"{path} holds a secret and others may read it (mode {mode:o}): chmod 600 {path}")


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.check_hostname = False  # a node's name is its id, not its host: `certifies` decides
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # peers keep their connections: nothing is ever resumed
    try:
        _check_private(files.key)
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
        if files.revoked is not None:
            context.load_verify_locations(files.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise LocalError(f"TLS files cannot be loaded: {error} ({files})") from None
    return context
