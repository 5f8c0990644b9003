"""The proxy's TOML file as records; docs/proxy.md shows one with every key. Times are in seconds, sizes in bytes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from toml_records import read_records

from distkit import LocalError
from distkit.balance import ClusterOptions, Endpoint, policies
from distkit.balance.checks import CheckOptions
from distkit.balance.outliers import OutlierOptions
from distkit.balance.routing import ZoneOptions
from distkit.balance.slow_start import SlowStart
from distkit.balance.stickiness import Sticky
from distkit.node.discovery import ApiServer
from distkit.transport import is_loopback, split_address

FILE_BYTES_MAX = 4 << 20
#: "source", "path", or one of these and a name.
_HASHED_BY_NAME = ("header:", "cookie:")
_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SERVICE = re.compile(f"({_LABEL})/({_LABEL})(?::({_LABEL}))?")


def _positive(record: object, *names: str) -> None:
    for name in names:
        if not getattr(record, name) > 0:
            raise LocalError(f"{name} must be above 0")


@dataclass(frozen=True)
class ListenerConfig:
    """`[listen.NAME]`: an address, and the cluster that answers what comes there."""

    address: str
    cluster: str
    mode: str = "http"
    proxy_protocol: bool = False
    connections_max: int = 4096
    head_timeout: float = 10.0
    idle_timeout: float = 60.0

    def __post_init__(self) -> None:
        split_address(self.address)
        if self.mode not in ("http", "tcp"):
            raise LocalError(f'mode must be "http" or "tcp", not {self.mode!r}')
        _positive(self, "connections_max", "head_timeout", "idle_timeout")


@dataclass(frozen=True)
class EndpointConfig:
    """`[[cluster.NAME.endpoints]]`; `id` is the address unless it is given."""

    address: str
    id: str = ""
    weight: float | None = 1.0
    priority: int = 0
    locality: str = ""
    connections_max: int = 0
    drained: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        split_address(self.address)
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """What the balancer is told."""
        return Endpoint(
            id=self.id or self.address,
            address=self.address,
            weight=self.weight,
            priority=self.priority,
            locality=self.locality,
            tags=self.tags,
            concurrency_max=self.connections_max,
            drained=self.drained,
        )


@dataclass(frozen=True)
class CheckConfig:
    """`[cluster.NAME.checks]`: ask each endpoint for `path` ("" only connects) every `interval`."""

    path: str = "/"
    statuses: tuple[int, ...] = (200,)
    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3

    def __post_init__(self) -> None:
        if self.path and not self.path.startswith("/"):
            raise LocalError(f"a path begins with /, not {self.path!r}")
        self.options().check()

    def options(self) -> CheckOptions:
        """What the balancer is told. It asks sooner while it is about to change its mind."""
        return CheckOptions(
            interval=self.interval,
            unhealthy_interval=self.interval,
            edge_interval=min(1.0, self.interval),
            idle_interval=self.interval,
            timeout=self.timeout,
            rise=self.rise,
            fall=self.fall,
        )


@dataclass(frozen=True)
class RetryConfig:
    """`[cluster.NAME.retries]`: `attempts` in all; retries are at most `minimum`, or a share of what is under way."""

    attempts: int = 3
    budget_percent: float = 20.0
    minimum: int = 3
    statuses: tuple[int, ...] = (502, 503, 504)
    body_bytes_max: int = 64 << 10

    def __post_init__(self) -> None:
        _positive(self, "attempts")
        if not 0 <= self.budget_percent <= 100 or self.minimum < 0 or self.body_bytes_max < 0:
            raise LocalError("budget_percent is 0 to 100, minimum and body_bytes_max are not negative")


@dataclass(frozen=True)
class ClusterConfig:
    """`[cluster.NAME]`: who answers, and how one of them is picked."""

    endpoints: tuple[EndpointConfig, ...] = ()
    dns: str = ""
    kubernetes: str = ""
    kubernetes_zone: str = ""
    kubernetes_api: str = ""
    policy: Any = "least_request"
    checks: CheckConfig | None = None
    outliers: OutlierOptions | None = None
    slow_start: SlowStart | None = None
    zones: ZoneOptions | None = None
    retries: RetryConfig = RetryConfig()
    hash_on: str = ""
    sticky_cookie: str = ""
    sticky_key_file: str = ""
    panic_threshold: int = 50
    requests_max: int = 0
    connect_timeout: float = 1.0
    response_timeout: float = 30.0
    idle_connections_max: int = 64
    idle_timeout: float = 30.0
    send_proxy_protocol: bool = False

    def __post_init__(self) -> None:
        if [bool(self.endpoints), bool(self.dns), bool(self.kubernetes)].count(True) != 1:
            raise LocalError("one of endpoints, dns and kubernetes is needed")
        if self.dns:
            split_address(self.dns)
        if self.kubernetes:
            self.service()
        if self.kubernetes_api and not is_loopback(split_address(self.kubernetes_api)[0]):
            raise LocalError("kubernetes_api is spoken to without TLS (kubectl proxy): it must be a loopback address")
        ids = [each.id or each.address for each in self.endpoints]
        if twice := next((each for place, each in enumerate(ids) if each in ids[:place]), None):
            raise LocalError(f"two endpoints are called {twice!r}")
        _positive(self, "connect_timeout", "response_timeout", "idle_timeout")
        if self.hash_on not in ("", "source", "path") and not self.hash_on.startswith(_HASHED_BY_NAME):
            raise LocalError(f'hash_on is "source", "path", "header:NAME" or "cookie:NAME", not {self.hash_on!r}')
        if self.sticky_key_file and not self.sticky_cookie:
            raise LocalError("sticky_key_file signs a cookie: sticky_cookie names it")
        self.options().check()
        self.sticky("")

    def is_same_but_for_endpoints(self, other: ClusterConfig) -> bool:
        """The balancer that runs can go on with the other's endpoints."""
        names = [each.name for each in fields(self) if each.name != "endpoints"]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def service(self) -> tuple[str, str, str | int | None]:
        """Namespace and name of the Kubernetes service, and its port: a name, a number, or None for the only one."""
        found = _SERVICE.fullmatch(self.kubernetes)
        if found is None:
            raise LocalError(f'kubernetes is "NAMESPACE/SERVICE:PORT_NAME", not {self.kubernetes!r}')
        namespace, service, port = found.groups()
        return namespace, service, int(port) if port is not None and port.isdigit() else port

    def api_server(self) -> ApiServer:
        """Who is asked for the endpoints of the service. LocalError outside of Kubernetes."""
        return ApiServer(self.kubernetes_api) if self.kubernetes_api else ApiServer.in_cluster(os.environ)

    def options(self) -> ClusterOptions:
        """What the balancer is told. `policy = "name"`, or `policy = { name = "name", option = ... }`."""
        if isinstance(self.policy, str):
            policy = policies.named(self.policy)
        elif isinstance(self.policy, dict) and isinstance(self.policy.get("name"), str):
            policy = policies.named(**self.policy)
        else:
            raise LocalError('policy is "NAME" or { name = "NAME", ... }')
        return ClusterOptions(
            policy=policy,
            concurrency_max=self.requests_max,
            panic_threshold=self.panic_threshold,
            zones=self.zones,
            slow_start=self.slow_start,
            outliers=self.outliers,
            checks=None if self.checks is None else self.checks.options(),
        )

    def sticky(self, cluster: str) -> Sticky:
        """Writes and reads the cookie of a cluster. LocalError if the key can't be used."""
        if not self.sticky_key_file:
            return Sticky(cluster)
        try:
            return Sticky(cluster, [Path(self.sticky_key_file).read_bytes()])
        except OSError as error:
            raise LocalError(f"sticky_key_file can't be read: {error.strerror or error}") from None


@dataclass(frozen=True)
class ProxyConfig:
    """The whole file."""

    listen: dict[str, ListenerConfig]
    cluster: dict[str, ClusterConfig]
    admin: str = ""
    drain_timeout: float = 30.0
    insecure: bool = False

    def __post_init__(self) -> None:
        if not self.listen:
            raise LocalError("a [listen.NAME] is needed")
        addresses = [each.address for each in self.listen.values()]
        if twice := next((each for place, each in enumerate(addresses) if each in addresses[:place]), None):
            raise LocalError(f"two listeners have the address {twice}")
        for name, each in self.listen.items():
            if each.cluster not in self.cluster:
                raise LocalError(f"listen.{name} sends to cluster {each.cluster!r}, which is not there")
        if self.admin and not self.insecure and not is_loopback(split_address(self.admin)[0]):
            raise LocalError(f"anybody who can reach {self.admin} sees all: use a loopback address, or insecure = true")


def read_config(path: Path) -> ProxyConfig:
    """Read the file. LocalError names the file, the line and the key."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path} can't be read: {error.strerror or error}") from None
    if len(data) > FILE_BYTES_MAX:
        raise LocalError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        return read_records(ProxyConfig, data.decode())
    except UnicodeDecodeError:
        raise LocalError(f"{path} is not UTF-8") from None
    except LocalError as error:
        raise LocalError(f"{path}: {error}") from None
