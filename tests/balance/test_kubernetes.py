"""Endpoints out of EndpointSlices: who is used, ports, families, weights, duplicates, and what is malformed."""

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.kubernetes import SliceError, endpoints_of
from distkit.core import LocalError


def pod(address: str, **fields: Any) -> dict[str, Any]:
    """An endpoint of a slice. `ready`, `serving`, `terminating`, `zones`, `nodes` go where they belong."""
    conditions = {key: fields.pop(key) for key in ("ready", "serving", "terminating") if key in fields}
    hints = {}
    if "zones" in fields:
        hints["forZones"] = [{"name": name} for name in fields.pop("zones")]
    if "nodes" in fields:
        hints["forNodes"] = [{"name": name} for name in fields.pop("nodes")]
    return {"addresses": [address], "conditions": conditions, **({"hints": hints} if hints else {}), **fields}


def slice_of(*endpoints: Any, name: str = "web-1", ports: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, **fields.pop("metadata", {})},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}] if ports is None else ports,
        **fields,
    }


def used(*slices: dict[str, Any], port: str | int | None = "http", **where: Any) -> list[str]:
    return [endpoint.address.removesuffix(":80") for endpoint in endpoints_of(slices, port, **where)]


def test_a_whole_endpoint() -> None:
    entry = pod(
        "10.0.0.1", ready=True, nodeName="n1", zone="z1", targetRef={"kind": "Pod", "name": "web-x", "uid": "u1"}
    )
    (endpoint,) = endpoints_of([slice_of(entry)])
    assert (endpoint.id, endpoint.address, endpoint.locality) == ("10.0.0.1:80@u1", "10.0.0.1:80", "z1")
    assert endpoint.tags == (("node", "n1"), ("pod", "web-x"))
    assert (endpoint.weight, endpoint.priority, endpoint.drained) == (1.0, 0, False)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),  # unset means ready
        ({"ready": None}, True),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False, "serving": True, "terminating": False}, False),
        ({"ready": False, "serving": False, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": True}, True),  # alone: it serves to the end
        ({"ready": False, "terminating": True}, False),  # serving unset means as ready
        ({"ready": True, "serving": True, "terminating": True}, True),  # publishNotReadyAddresses
    ],
)
def test_conditions_of_the_only_endpoint(conditions: dict[str, bool], expected: bool) -> None:
    assert used(slice_of(pod("10.0.0.1", **conditions))) == (["10.0.0.1"] if expected else [])


def test_those_that_terminate_serve_only_when_none_is_ready() -> None:
    draining = pod("10.0.0.2", ready=False, serving=True, terminating=True)
    gone = pod("10.0.0.3", ready=False, serving=False, terminating=True)
    assert used(slice_of(pod("10.0.0.1"), draining, gone)) == ["10.0.0.1"]
    assert used(slice_of(pod("10.0.0.1", ready=False), draining, gone)) == ["10.0.0.2"]
    assert used(slice_of(gone)) == []


def test_hints_by_node_then_by_zone() -> None:
    both = slice_of(
        pod("10.0.0.1", zones=["z1"], nodes=["n1"]),
        pod("10.0.0.2", zones=["z1"], nodes=["n2"]),
        pod("10.0.0.3", zones=["z2"], nodes=["n3"]),
    )
    assert used(both, node="n1", zone="z1") == ["10.0.0.1"]
    assert used(both, node="n9", zone="z1") == ["10.0.0.1", "10.0.0.2"]  # no endpoint on the node: by zone
    assert used(both, node="n9", zone="z9") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]  # nor in the zone: all
    assert used(both, zone="z2") == ["10.0.0.3"]
    assert used(both) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_one_ready_endpoint_without_hint_switches_hints_off() -> None:
    hinted = [pod("10.0.0.1", zones=["z1"]), pod("10.0.0.2", zones=["z2"])]
    assert used(slice_of(*hinted), zone="z1") == ["10.0.0.1"]
    assert used(slice_of(*hinted, pod("10.0.0.3")), zone="z1") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert used(slice_of(*hinted, pod("10.0.0.3", ready=False)), zone="z1") == ["10.0.0.1"]  # only ready ones count
    assert used(slice_of(*hinted), zone="z1", node="n1") == ["10.0.0.1"]  # none has a hint for nodes: by zone


def test_hints_play_no_part_among_those_that_terminate() -> None:
    last = [pod(f"10.0.0.{n}", ready=False, serving=True, terminating=True, zones=[f"z{n}"]) for n in (1, 2)]
    assert used(slice_of(*last), zone="z1") == ["10.0.0.1", "10.0.0.2"]


def test_an_endpoint_of_a_hint_for_several_zones() -> None:
    shared = slice_of(pod("10.0.0.1", zones=["z1", "z2"]), pod("10.0.0.2", zones=["z2"]))
    assert used(shared, zone="z2") == ["10.0.0.1", "10.0.0.2"]


def test_ports_by_name_number_or_the_only_one() -> None:
    two = [
        {"name": "http", "port": 80},
        {"name": "admin", "port": 9000},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    web = slice_of(pod("10.0.0.1"), ports=two)

    def address(port: str | int | None, **options: Any) -> str:
        return endpoints_of([web], port, **options)[0].address

    assert (address("http"), address("admin"), address(9000)) == ("10.0.0.1:80", "10.0.0.1:9000", "10.0.0.1:9000")
    assert address(None, protocol="UDP") == "10.0.0.1:53"
    with pytest.raises(LocalError, match=r"several TCP ports, so name one: 'http', 'admin'"):
        address(None)
    with pytest.raises(LocalError, match=r"no TCP port 'dns'; it has 'http', 'admin'"):
        address("dns")


def test_a_named_port_may_have_another_number_in_each_slice() -> None:
    first = slice_of(pod("10.0.0.1"), name="a")
    second = slice_of(pod("10.0.0.2"), name="b", ports=[{"name": "http", "port": 8080}])
    third = slice_of(pod("10.0.0.3"), name="c", ports=[{"name": "other", "port": 1}])
    assert [e.address for e in endpoints_of([first, second, third], "http")] == ["10.0.0.1:80", "10.0.0.2:8080"]


def test_slices_without_ports_stand_for_all() -> None:
    for ports in ([], [{"name": "", "port": None}]):
        assert endpoints_of([slice_of(pod("10.0.0.1"), ports=ports)], 443)[0].address == "10.0.0.1:443"
    assert endpoints_of([slice_of(ports=[])], "http") == ()
    assert endpoints_of([{**slice_of(), "endpoints": None, "ports": None}], "http") == ()
    assert endpoints_of([], "http") == ()


def test_of_several_families_the_first_that_has_endpoints_is_used() -> None:
    four = slice_of(pod("10.0.0.1"), name="four")
    six = slice_of(pod("fd00::1"), name="six", addressType="IPv6")
    assert [e.address for e in endpoints_of([six, four])] == ["10.0.0.1:80"]
    assert [e.address for e in endpoints_of([six, four], families=("IPv6", "IPv4"))] == ["[fd00::1]:80"]
    assert [e.address for e in endpoints_of([six, slice_of(name="four")])] == ["[fd00::1]:80"]
    name = slice_of(pod("db.example"), addressType="FQDN")
    assert [e.address for e in endpoints_of([name])] == ["db.example:80"]


def test_weights_by_annotation_of_the_slice_or_of_one_endpoint() -> None:
    notes = {"distkit.dev/weight": "3", "distkit.dev/weight.canary": "0.5", "distkit.dev/weight.host-9": "0", "x": "y"}
    web = slice_of(
        pod("10.0.0.1"),
        pod("10.0.0.2", targetRef={"name": "canary"}),
        pod("10.0.0.3", hostname="host-9"),
        metadata={"annotations": notes},
    )
    assert [endpoint.weight for endpoint in endpoints_of([web])] == [3.0, 0.5, 0.0]
    assert [endpoint.weight for endpoint in endpoints_of([web], weight_annotation="x.dev/w")] == [1.0, 1.0, 1.0]
    for wrong in ("heavy", "-1", "nan", "inf", "", None, 10**400):
        bad = slice_of(pod("10.0.0.1"), metadata={"annotations": {"distkit.dev/weight": wrong}})
        with pytest.raises(SliceError, match=r"metadata.annotations\['distkit.dev/weight'\]"):
            endpoints_of([bad])


def test_what_is_in_two_slices_counts_once_and_the_readiest_wins() -> None:
    old = slice_of(pod("10.0.0.1", ready=False, serving=True, terminating=True), pod("10.0.0.2"), name="old")
    new = slice_of(pod("10.0.0.1"), pod("10.0.0.3", ready=False), name="new")
    last = slice_of(pod("10.0.0.3", ready=False, serving=True, terminating=True), name="last")
    for order in permutations([old, new, last]):
        assert used(*order) == ["10.0.0.1", "10.0.0.2"]


def test_a_new_pod_at_an_old_address_is_another_endpoint() -> None:
    first = endpoints_of([slice_of(pod("10.0.0.1", targetRef={"uid": "u1"}))])
    second = endpoints_of([slice_of(pod("10.0.0.1", targetRef={"uid": "u2"}))])
    assert first[0].address == second[0].address
    assert first[0].id != second[0].id


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"metadata": None}, "metadata must be an object"),
    ({"kind": "Endpoints"}, "kind must be EndpointSlice"),
    ({"apiVersion": "discovery.k8s.io/v1beta1"}, "apiVersion must be discovery"),
    ({"addressType": None}, "addressType must be text"),
    ({"addressType": "IPX"}, "addressType must be IPv4, IPv6 or FQDN"),
    ({"endpoints": {}}, "endpoints must be a list"),
    ({"endpoints": [pod("1")] * 1001}, "endpoints must be a list of at most 1000"),
    ({"endpoints": ["10.0.0.1"]}, r"endpoints\[0\] must be an object"),
    ({"endpoints": [pod("1"), {"addresses": []}]}, r"endpoints\[1\].addresses must have at least one"),
    ({"endpoints": [{"addresses": [5]}]}, r"endpoints\[0\].addresses must have"),
    ({"endpoints": [{"addresses": "10.0.0.1"}]}, r"endpoints\[0\].addresses must be a list"),
    ({"endpoints": [{"addresses": ["a"] * 101}]}, r"endpoints\[0\].addresses must be a list of at most 100"),
    ({"endpoints": [pod("1", ready="yes")]}, r"endpoints\[0\].conditions.ready must be true or false, not 'yes'"),
    ({"endpoints": [{**pod("1"), "conditions": []}]}, r"endpoints\[0\].conditions must be an object"),
    ({"endpoints": [pod("1", zone=5)]}, r"endpoints\[0\].zone must be text"),
    ({"endpoints": [pod("1" * 2000)]}, r"endpoints\[0\] .*at most 1024"),
    ({"endpoints": [pod("1", hints={"forZones": [{}]})]}, r"endpoints\[0\].hints.forZones\[0\].name must be text"),
    ({"endpoints": [pod("1", hints={"forNodes": "n1"})]}, r"endpoints\[0\].hints.forNodes must be a list"),
    ({"endpoints": [pod("1", targetRef="pod")]}, r"endpoints\[0\].targetRef must be an object"),
    ({"ports": [{"name": "http", "port": 0}]}, r"ports\[0\].port must be 1 to 65535, not 0"),
    ({"ports": [{"name": "http", "port": "80"}]}, r"ports\[0\].port must be 1 to 65535"),
    ({"ports": [7]}, r"ports\[0\] must be an object"),
    ({"ports": [{"port": 80, "name": 4}]}, r"ports\[0\].name must be text"),
    ({"metadata": {"name": "web-1", "annotations": []}, "endpoints": []}, "metadata.annotations must be an object"),
]


@pytest.mark.parametrize(("fields", "message"), MALFORMED)
def test_what_is_malformed_is_named(fields: dict[str, Any], message: str) -> None:
    broken = {**slice_of(pod("10.0.0.1")), **fields}
    with pytest.raises(SliceError, match=message):
        endpoints_of([broken], "http")


def test_more_slices_than_any_service_has_are_refused() -> None:
    with pytest.raises(SliceError, match="more than 10000"):
        endpoints_of(slice_of() for _ in range(10_001))
    with pytest.raises(SliceError, match="number 0: metadata"):
        endpoints_of(["slice"])  # type: ignore[list-item]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = ["metadata", "addressType", "endpoints", "ports", "kind"]
INNER = ["addresses", "conditions", "hints", "zone", "nodeName", "targetRef", "hostname"]


@given(st.sampled_from(PLACES + INNER), json_values)
def test_any_json_gives_endpoints_or_a_typed_error(place: str, value: Any) -> None:
    web = slice_of(pod("10.0.0.1"), pod("10.0.0.2"))
    (web if place in PLACES else web["endpoints"][1])[place] = value
    try:
        endpoints = endpoints_of([web], "http")
    except (SliceError, LocalError):
        return
    assert len({endpoint.id for endpoint in endpoints}) == len(endpoints) <= 2


@given(st.integers(0, 2**32))
def test_the_order_of_slices_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    pods = [
        pod(f"10.0.0.{rng.randrange(6)}", ready=rng.random() < 0.5, serving=True, terminating=True, zone=f"z{n}")
        for n in range(12)
    ]
    slices = [slice_of(*pods[n : n + 4], name=f"s{n}") for n in (0, 4, 8)]
    first = endpoints_of(slices)
    rng.shuffle(slices)
    assert endpoints_of(slices) == first
    assert [endpoint.id for endpoint in first] == sorted(endpoint.id for endpoint in first)
