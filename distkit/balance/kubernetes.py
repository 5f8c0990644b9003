"""Endpoints of a Kubernetes service from its EndpointSlices (discovery.k8s.io/v1): pure functions over their JSON.

What kube-proxy does on each node, done by the client itself and for each request instead of each connection:

1. ready endpoints are used; if none is, those that still serve while they terminate;
2. among ready ones, if all have a hint and one fits: those hinted for the own node, else those for the own zone;
3. whoever is left takes turns.

The first two are `endpoints_of`. The third is a balancer over its result, which is why a client on a long connection is
not pinned to one pod:

    cluster = Cluster(ClusterOptions(policy=RoundRobin()), rng)
    cluster.update(endpoints_of(slices, port="http", zone="eu-1a"), now)     # again at each change of the slices
    handle = cluster.pick(None, now)                                         # for each request

The slices come from the API server, all those with the label kubernetes.io/service-name of the service. An endpoint
that leaves the result while requests are under way keeps them: a cluster only stops picking it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from distkit.balance.endpoints import Endpoint, check_weight
from distkit.core import LocalError, PeerError, record

#: The annotation of a slice that gives all its endpoints a weight (0 drains them). With a dot and the name of an
#: endpoint's hostname or pod behind it, it gives that endpoint one.
WEIGHT: Final = "distkit.dev/weight"

#: What the API server allows in one slice, and more slices than any service has.
ENDPOINTS_MAX: Final = 1000
ADDRESSES_MAX: Final = 100
PORTS_MAX: Final = 100
SLICES_MAX: Final = 10_000


class SliceError(PeerError):
    """An EndpointSlice is not what the API says. The message names the slice and the field."""


@record
class _Found:
    """An endpoint of a slice, before it is decided who is used."""

    endpoint: Endpoint
    ready: bool
    draining: bool  # terminating, but it still serves
    nodes: tuple[str, ...]
    zones: tuple[str, ...]


def endpoints_of(
    slices: Iterable[Mapping[str, Any]],
    port: str | int | None = None,
    *,
    node: str = "",
    zone: str = "",
    families: tuple[str, ...] = ("IPv4", "IPv6", "FQDN"),
    protocol: str = "TCP",
    weight_annotation: str = WEIGHT,
) -> tuple[Endpoint, ...]:
    """The endpoints to use, sorted by id; the same for any order of the slices.

    `port` is the name of a port of the service, or a number for slices that don't name any; None takes the only one.
    `node` and `zone` are where the client runs, "" if hints are not to be followed. A service of several address
    families has each pod once in each: the first of `families` that has endpoints is used. What is in several slices
    counts once, the readiest first. Ids are ADDRESS:PORT@pod-uid, so a new pod at an old address is another endpoint;
    localities are zones, tags have `node` and `pod`.

    Raises SliceError for malformed slices and LocalError for a port that the service does not have.
    """
    by_family: dict[str, list[_Found]] = {family: [] for family in families}
    offered: dict[str, None] = {}
    for at, slice_ in enumerate(sorted(_checked(slices), key=lambda item: str(item["metadata"].get("name", "")))):
        reader = _Reader(str(slice_["metadata"].get("name", f"number {at}")))
        family = reader.text(slice_, "addressType", required=True)
        if family not in ("IPv4", "IPv6", "FQDN"):
            raise reader.wrong("addressType", f"must be IPv4, IPv6 or FQDN, not {family!r}")
        entries = reader.items(slice_, "endpoints", ENDPOINTS_MAX)
        number, names = _port(reader, slice_, port, protocol)
        if entries:
            offered |= dict.fromkeys(names)
        if number is None or family not in by_family:
            continue
        weights = reader.mapping(slice_["metadata"], "annotations", "metadata.annotations")
        for i, entry in enumerate(entries):
            found = _endpoint(reader, entry, f"endpoints[{i}]", number, family, weights, weight_annotation)
            by_family[family].append(found)
    chosen = next((found for found in by_family.values() if found), [])
    if not chosen and offered:
        raise LocalError(f"the service has no {protocol} port {port!r}; it has {', '.join(offered)}")
    return _use(_once(chosen), node, zone)


def _use(found: list[_Found], node: str, zone: str) -> tuple[Endpoint, ...]:
    """The rule of kube-proxy: ready ones, by hint if all have one and one fits; else those that serve to the end."""
    ready = [item for item in found if item.ready]
    if not ready:
        return tuple(item.endpoint for item in found if item.draining)
    for place, hints in ((node, [item.nodes for item in ready]), (zone, [item.zones for item in ready])):
        if place and all(hints) and any(place in hint for hint in hints):
            return tuple(item.endpoint for item, hint in zip(ready, hints, strict=True) if place in hint)
    return tuple(item.endpoint for item in ready)


def _once(found: list[_Found]) -> list[_Found]:
    """Each endpoint once, sorted by id: while slices are rewritten, one may be in two of them."""
    best: dict[str, _Found] = {}
    for item in found:
        known = best.get(item.endpoint.id)
        if known is None or (item.ready, item.draining) > (known.ready, known.draining):
            best[item.endpoint.id] = item
    return [best[id] for id in sorted(best)]


def _endpoint(
    reader: _Reader,
    entry: Any,
    at: str,
    port: int,
    family: str,
    annotations: Mapping[str, Any],
    weight_annotation: str,
) -> _Found:
    if not isinstance(entry, Mapping):
        raise reader.wrong(at, "must be an object")
    addresses = reader.items(entry, "addresses", ADDRESSES_MAX, at)
    if not addresses or not isinstance(addresses[0], str) or not addresses[0]:
        raise reader.wrong(f"{at}.addresses", "must have at least one address, as text")
    conditions = reader.mapping(entry, "conditions", f"{at}.conditions")
    ready = reader.flag(conditions, "ready", f"{at}.conditions", unset=True)
    serving = reader.flag(conditions, "serving", f"{at}.conditions", unset=ready)
    terminating = reader.flag(conditions, "terminating", f"{at}.conditions", unset=False)
    target = reader.mapping(entry, "targetRef", f"{at}.targetRef")
    pod, uid = reader.text(target, "name", f"{at}.targetRef"), reader.text(target, "uid", f"{at}.targetRef")
    tags = {"node": reader.text(entry, "nodeName", at), "pod": pod}
    address = f"[{addresses[0]}]:{port}" if family == "IPv6" else f"{addresses[0]}:{port}"
    hints = reader.mapping(entry, "hints", f"{at}.hints")
    names = (reader.text(entry, "hostname", at), pod)
    try:
        endpoint = Endpoint(
            id=f"{address}@{uid}" if uid else address,
            address=address,
            weight=_weight(reader, annotations, weight_annotation, names),
            locality=reader.text(entry, "zone", at),
            tags={name: value for name, value in tags.items() if value},
        )
    except LocalError as error:
        raise reader.wrong(at, str(error)) from None
    return _Found(
        endpoint,
        ready,
        serving and terminating,
        reader.names(hints, "forNodes", f"{at}.hints"),
        reader.names(hints, "forZones", f"{at}.hints"),
    )


def _weight(reader: _Reader, annotations: Mapping[str, Any], annotation: str, names: tuple[str, ...]) -> float:
    for key in (*(f"{annotation}.{name}" for name in names if name), annotation):
        if key not in annotations:
            continue
        text = annotations[key]
        try:
            return check_weight(key, float(text) if isinstance(text, str) else text)
        except (ValueError, LocalError):
            raise reader.wrong(
                f"metadata.annotations[{key!r}]", f"must be 0 or a positive number as text, not {text!r}"
            ) from None
    return 1.0


def _port(
    reader: _Reader, slice_: Mapping[str, Any], wanted: str | int | None, protocol: str
) -> tuple[int | None, list[str]]:
    """The number behind the wanted port in this slice, None if it has no such port; and the ports that it has.

    A slice without ports, or a port without number, stands for all ports: there a wanted number is taken as it is.
    """
    number: int | None = None
    names: list[str] = []
    entries = reader.items(slice_, "ports", PORTS_MAX)
    for i, entry in enumerate(entries):
        at = f"ports[{i}]"
        if not isinstance(entry, Mapping):
            raise reader.wrong(at, "must be an object")
        value = entry.get("port")
        if value is not None and (type(value) is not int or not 1 <= value <= 65535):
            raise reader.wrong(f"{at}.port", f"must be 1 to 65535, not {value!r}")
        if (reader.text(entry, "protocol", at) or "TCP") != protocol:
            continue
        name = reader.text(entry, "name", at)
        names.append(repr(name) if name else str(value))
        if value is None and type(wanted) is int:
            number = wanted
        elif wanted is None or wanted in (name, value):
            number = value
    if not entries and type(wanted) is int:
        return wanted, [str(wanted)]
    if wanted is None and len(names) > 1:
        raise LocalError(f"the service has several {protocol} ports, so name one: {', '.join(names)}")
    return number, names


def _checked(slices: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The slices, if they can be told apart and are no more than a service can have."""
    found: list[Mapping[str, Any]] = []
    for item in slices:
        if len(found) == SLICES_MAX:
            raise SliceError(f"more than {SLICES_MAX} EndpointSlices")
        if not isinstance(item, Mapping) or not isinstance(item.get("metadata"), Mapping):
            raise SliceError(f"EndpointSlice number {len(found)}: metadata must be an object")
        if item.get("kind", "EndpointSlice") != "EndpointSlice":
            raise SliceError(f"EndpointSlice number {len(found)}: kind must be EndpointSlice, not {item['kind']!r}")
        if item.get("apiVersion", "discovery.k8s.io/v1") != "discovery.k8s.io/v1":
            raise SliceError(
                f"EndpointSlice number {len(found)}: apiVersion must be discovery.k8s.io/v1, not {item['apiVersion']!r}"
            )
        found.append(item)
    return found


class _Reader:
    """Reads fields of one slice; what is null or absent is empty, what has another type is an error that says where."""

    def __init__(self, name: str) -> None:
        self.name = name[:253]

    def wrong(self, field: str, problem: str) -> SliceError:
        return SliceError(f"EndpointSlice {self.name}: {field} {problem}")

    def text(self, parent: Mapping[str, Any], key: str, at: str = "", required: bool = False) -> str:
        value = parent.get(key)
        if (value is None and required) or not (value is None or isinstance(value, str)):
            raise self.wrong(f"{at}.{key}".lstrip("."), f"must be text, not {str(value)[:80]!r}")
        return value or ""

    def flag(self, parent: Mapping[str, Any], key: str, at: str, unset: bool) -> bool:
        value = parent.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(f"{at}.{key}", f"must be true or false, not {str(value)[:80]!r}")
        return unset if value is None else value

    def mapping(self, parent: Mapping[str, Any], key: str, at: str) -> Mapping[str, Any]:
        value = parent.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(at, f"must be an object, not {str(value)[:80]!r}")
        return value or {}

    def items(self, parent: Mapping[str, Any], key: str, most: int, at: str = "") -> list[Any]:
        value = parent.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(f"{at}.{key}".lstrip("."), f"must be a list of at most {most}")
        return value

    def names(self, parent: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
        """The names in a list of hints."""
        found = []
        for i, item in enumerate(self.items(parent, key, ADDRESSES_MAX, at)):
            if not isinstance(item, Mapping):
                raise self.wrong(f"{at}.{key}[{i}]", "must be an object")
            found.append(self.text(item, "name", f"{at}.{key}[{i}]", required=True))
        return tuple(found)
