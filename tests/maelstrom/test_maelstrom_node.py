"""The node for Maelstrom: what it answers, with which certainty, and that nothing on its input ends it."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from maelstrom_network import STREAMS_MAX, MaelstromNetwork
from maelstrom_node import main
from memory import NAMES, Body, Cluster, run

from distkit.core import IdentityError, LocalError
from distkit.replica import registry
from distkit.replica.messages import FetchSnapshot


def others(name: str) -> list[str]:
    return [other for other in NAMES if other != name]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_read_write_and_cas_answer_as_the_workload_says(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        assert (await cluster.read("n1"))["code"] == 20
        assert (await cluster.cas("n2", 1, 2))["code"] == 20
        assert await cluster.write("n3", 1) == {"type": "write_ok"}
        assert await cluster.read("n1") == {"type": "read_ok", "value": 1}
        assert (await cluster.cas("n1", 3, 4))["code"] == 22
        assert await cluster.cas("n2", 1, 2) == {"type": "cas_ok"}
        assert await cluster.read("n3") == {"type": "read_ok", "value": 2}
        assert (await cluster.read("n3", key=1))["code"] == 20

    run(tmp_path, main)


@pytest.mark.parametrize("value", [0, None, True, 1.5, "text", [1, {"a": []}], {"b": 1, "a": None}, "\0 \ud800"])
def test_any_value_comes_back_as_it_was(tmp_path: Path, value: object) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        await cluster.init("n1", ("n1",))
        await cluster.leader()
        await cluster.write("n1", value, key={"k": value})
        assert await cluster.read("n1", key={"k": value}) == {"type": "read_ok", "value": value}

    run(tmp_path, main)


def test_equal_means_equal_in_json(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        await cluster.init("n1", ("n1",))
        await cluster.leader()
        await cluster.write("n1", 1)
        assert (await cluster.cas("n1", True, 2))["code"] == 22
        assert (await cluster.read("n1", key="0"))["code"] == 20

    run(tmp_path, main)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "read"}, 12),
        ({"type": "write", "key": 0}, 12),
        ({"type": "cas", "key": 0, "from": 1}, 12),
        ({"type": "write", "key": 0, "value": "x" * 70_000}, 12),
        ({"type": "write", "key": 0, "value": [[]] * 200}, 12),
        ({"type": "txn", "txn": []}, 10),
        ({"type": 7}, 12),
        ({}, 12),
        ({"type": "init", "node_id": "n9", "node_ids": ["n9"]}, 14),
        ({"type": "init", "node_id": "n1", "node_ids": ["n1", "n2"]}, 14),
    ],
)
def test_a_request_that_cannot_be_done_says_why(tmp_path: Path, body: Body, code: int) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        await cluster.init("n1", ("n1",))
        await cluster.leader()
        answer = await cluster.ask("n1", body)
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["text"]
        assert await cluster.init("n1", ("n1",)) == {"type": "init_ok"}

    run(tmp_path, main)


@pytest.mark.parametrize(
    "names",
    [None, [], ["n2"], ["n1", "n1"], ["n1", 2], ["n1", "../n2"], ["n1", ""], ["n1", *map(str, range(64))]],
    ids=str,
)
def test_an_init_that_makes_no_sense_is_refused_and_another_may_follow(tmp_path: Path, names: Any) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        assert (await cluster.ask("n1", {"type": "init", "node_id": "n1", "node_ids": names}))["code"] == 12
        assert await cluster.init("n1", ("n1",)) == {"type": "init_ok"}

    run(tmp_path, main)


NONSENSE = [
    b"",
    b"junk",
    b"\xff\xfe",
    '{"src":"c1","dest":"n1","body":{"type":"init","msg_id":1}}'.encode("utf-16-le"),
    b"{}",
    b"[1]",
    b"[" * 100_000,
    b'{"src":"c1","dest":"n1"}',
    b'{"src":"c1","dest":"n1","body":[]}',
    b'{"src":1,"dest":"n1","body":{}}',
    b'{"src":"c1","dest":"n1","body":{"type":"read","msg_id":1,"key":NaN}}',
    b'{"src":"c1","dest":"n1","body":{"type":"read","msg_id":' + b"9" * 5000 + b"}}",
    b'{"src":"c1","dest":"n1","body":{"type":"read","key":1}}',
    b'{"src":"c1","dest":"n1","body":{"type":"read","key":1,"msg_id":true}}',
    b'{"src":"c1","dest":"n2","body":{"type":"read","key":1,"msg_id":1}}',
    b'{"src":"n2","dest":"n1","body":{"type":"error","in_reply_to":1,"code":11}}',
    b'{"src":"n2","dest":"n1","body":{"type":"distkit"}}',
    b'{"src":"c1","dest":"n1","body":{"type":"distkit_hello","hello":"AAAA"}}',
    b"x" * (9 << 20),
]


def test_nothing_on_the_input_ends_it_or_is_answered(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        for line in NONSENSE:  # before init, and after
            cluster.feed("n1", line + b"\n")
        assert await cluster.init("n1", ("n1",)) == {"type": "init_ok"}
        await cluster.leader()
        for line in NONSENSE:
            cluster.feed("n1", line + b"\r\n")
        assert await cluster.write("n1", 1) == {"type": "write_ok"}
        counters = cluster.nodes["n1"].counters
        assert counters["malformed"] == 13 + 15
        assert counters["astray"] == 6 + 1
        assert counters["replies"] == 1

    run(tmp_path, main)


# -- certainty --------------------------------------------------------------------------------------------------------


def test_init_is_answered_alone_and_requests_are_definitely_not_done_until_the_cluster_is_formed(
    tmp_path: Path,
) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.start("n1")
        assert (await cluster.write("n1", 1))["code"] == 11  # at once
        await cluster.start("n2", "n3")
        await cluster.leader()
        assert (await cluster.read("n1"))["code"] == 20

    run(tmp_path, main)


def test_of_two_cas_at_once_on_two_nodes_one_wins_and_the_other_is_a_mismatch(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        await cluster.write("n1", 0)
        numbers = [
            cluster.send(name, {"type": "cas", "key": 0, "from": 0, "to": place}) for place, name in enumerate(NAMES, 1)
        ]
        answers = [await cluster.answer(number) for number in numbers]
        assert sorted(answer.get("code", 0) for answer in answers) == [0, 22, 22]
        winner = next(place for place, answer in enumerate(answers, 1) if answer["type"] == "cas_ok")
        assert await cluster.read("n2") == {"type": "read_ok", "value": winner}

    run(tmp_path, main)


def test_what_a_cut_off_leader_took_is_unknown_never_refused(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        cluster.cut = {leader}
        assert (await cluster.write(leader, 1))["code"] == 13

    run(tmp_path, main, timeout=0.9)


def test_what_was_forwarded_to_a_leader_that_is_killed_is_unknown(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        follower = others(leader)[0]
        cluster.lose = lambda source, target, body: body["type"] == "distkit"
        number = cluster.send(follower, {"type": "write", "key": 0, "value": 1})
        await trio.sleep(0.05)
        await cluster.kill(leader)
        assert (await cluster.answer(number))["code"] == 13

    run(tmp_path, main, timeout=0.9)


def test_what_was_forwarded_to_a_leader_that_starts_again_is_unknown_at_once(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        follower = others(leader)[0]
        cluster.lose = lambda source, target, body: body["type"] == "distkit"
        number = cluster.send(follower, {"type": "write", "key": 0, "value": 1})
        await trio.sleep(0.05)
        await cluster.kill(leader)
        await cluster.start(leader)
        answer = await cluster.answer(number)
        assert answer["code"] == 13
        assert "unknown" in answer["text"]  # not "in time"

    run(tmp_path, main)


def test_what_another_leader_replaced_is_definitely_not_done(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        old = await cluster.formed()
        cluster.cut = {old}
        number = cluster.send(old, {"type": "write", "key": 0, "value": "old"})
        new = await cluster.leader(*others(old))
        assert await cluster.write(new, "new") == {"type": "write_ok"}
        cluster.cut = set()
        assert (await cluster.answer(number))["code"] == 14
        assert await cluster.read(old) == {"type": "read_ok", "value": "new"}

    run(tmp_path, main, timeout=120.0)


def test_what_waits_for_a_leader_in_vain_is_definitely_not_done(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        alone, other = others(leader)
        await cluster.kill(leader)
        await cluster.kill(other)
        await trio.sleep(5.0)
        assert (await cluster.write(alone, 1))["code"] == 11
        await cluster.start(leader)
        assert (await cluster.settled(lambda: cluster.read(alone)))["code"] == 20

    run(tmp_path, main, timeout=0.9)


def test_a_cut_off_leader_answers_no_read(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        old = await cluster.formed()
        await cluster.settled(lambda: cluster.write(old, "before"))
        cluster.cut = {old}
        new = await cluster.leader(*others(old))
        await cluster.settled(lambda: cluster.write(new, "after"))
        assert (await cluster.read(old))["type"] == "error"
        cluster.cut = set()
        assert await cluster.settled(lambda: cluster.read(old)) == {"type": "read_ok", "value": "after"}

    run(tmp_path, main, timeout=0.9)


# -- identity ---------------------------------------------------------------------------------------------------------


def test_a_second_start_in_its_directory_goes_on(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        await cluster.write("n1", 1)
        for name in NAMES:
            await cluster.kill(name)
        await cluster.start(*NAMES)
        await cluster.leader()
        assert await cluster.read("n2") == {"type": "read_ok", "value": 1}

    run(tmp_path, main)


def test_swapped_directories_are_refused(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        for name in ("n1", "n2"):
            await cluster.kill(name)
        (tmp_path / "n1").rename(tmp_path / "n")
        (tmp_path / "n2").rename(tmp_path / "n1")
        cluster.launch("n1")
        answer = await cluster.init("n1")
        assert answer["code"] == 14
        assert "belongs to node 2" in answer["text"]
        assert isinstance(await cluster.ended("n1"), IdentityError)

    run(tmp_path, main)


@pytest.mark.parametrize("names", [("n1", "n2", "n4"), ("n1", "n2"), ("n1", "n2", "n3", "n4")])
def test_other_members_than_it_was_formed_with_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        await cluster.kill("n1")
        cluster.launch("n1")
        answer = await cluster.init("n1", names)
        assert answer["code"] == 14
        assert "belongs to a cluster" in answer["text"]
        assert isinstance(await cluster.ended("n1"), IdentityError)

    run(tmp_path, main)


def test_a_directory_that_cannot_be_used_is_the_answer_to_init(tmp_path: Path) -> None:
    (tmp_path / "n1").write_text("this is a file")

    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        answer = await cluster.init("n1")
        assert answer["code"] == 14
        assert "can't be used" in answer["text"]
        assert isinstance(await cluster.ended("n1"), LocalError)

    run(tmp_path, main)


@pytest.mark.parametrize(
    "words", [[], ["--timeout=0"], ["--timeout=nan"], ["--election-timeout=-1"], ["--snapshot-entries=0"], ["--no"]]
)
def test_a_wrong_command_line_ends_with_a_usage_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--data=x"] if words else [])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_wiped_directory_is_refused_by_the_others(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.formed()
        await cluster.kill("n1")
        cluster.launch("n1", tmp_path / "other")
        await cluster.init("n1")
        assert "new data directory" in str(await cluster.ended("n1"))
        await cluster.leader("n2", "n3")
        assert await cluster.write("n2", 1) == {"type": "write_ok"}

    run(tmp_path, main)


def test_it_ends_with_its_input(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.launch("n1")
        await cluster.init("n1", ("n1",))
        await cluster.end("n1")
        assert cluster.errors == {}

    run(tmp_path, main)


def test_who_never_meets_a_member_hears_from_another_that_the_cluster_is_formed(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.lose = lambda source, target, body: {source, target} == {"n2", "n3"}
        await cluster.start("n1", "n2")
        await trio.sleep(1.0)
        await cluster.start("n3")
        await cluster.until(lambda: all(node.replica is not None for node in cluster.nodes.values()))

    run(tmp_path, main)


# -- peers ------------------------------------------------------------------------------------------------------------


def number(name: str) -> int:
    """The node's number."""
    return NAMES.index(name) + 1


def network_of(cluster: Cluster, name: str) -> MaelstromNetwork:
    network = cluster.nodes[name].network
    assert network is not None
    return network


def lines_of(cluster: Cluster, source: str, target: str) -> list[bytes]:
    """The frames that one node has sent another so far."""
    messages = [(s, t, body) for s, t, body in cluster.passed if (s, t, body["type"]) == (source, target, "distkit")]
    return [json.dumps({"src": s, "dest": t, "body": body}).encode() + b"\n" for s, t, body in messages]


def test_repeated_messages_are_taken_once(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.copies = 2
        await cluster.formed()
        for value in range(5):
            assert await cluster.write(NAMES[value % 3], value) == {"type": "write_ok"}
        counters = network_of(cluster, "n1").counters
        assert counters["repeated"] > 0
        assert counters["nonsense"] == 0

    run(tmp_path, main)


def test_messages_of_or_for_an_earlier_start_are_dropped(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        follower = others(leader)[0]
        assert await cluster.write(leader, 1) == {"type": "write_ok"}
        old = {a: lines_of(cluster, b, a) for a, b in ((leader, follower), (follower, leader))}
        await cluster.kill(follower)
        await cluster.start(follower)
        await cluster.until(
            lambda: all(network_of(cluster, a).connected(number(b)) for a in old for b in old if a != b)
        )
        for name, lines in old.items():
            counters = network_of(cluster, name).counters
            stale, repeated = counters["stale"], counters["repeated"]
            cluster.feed(name, b"".join(lines))
            assert await cluster.settled(partial(cluster.read, name)) == {"type": "read_ok", "value": 1}
            assert (counters["stale"], counters["repeated"]) == (stale + len(lines), repeated)
            assert len(lines) > 0

    run(tmp_path, main)


def test_a_peer_has_few_transfers_open_at_a_time(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        await cluster.write(leader, 1)
        counters = network_of(cluster, leader).counters
        (*_, line) = lines_of(cluster, others(leader)[0], leader)
        message = json.loads(line)
        frame = b"".join(registry().encode_frame(FetchSnapshot(1, 1, 0, 10)))
        message["body"] |= {"type": "distkit_bulk", "asks": True, "frames": base64.b64encode(frame).decode()}
        stale = counters["stale"]
        for stream in range(1, 11):
            message["body"]["stream"] = stream
            cluster.feed(leader, json.dumps(message).encode() + b"\n")
        assert await cluster.read(leader) == {"type": "read_ok", "value": 1}
        assert counters["stale"] == stale + 10 - STREAMS_MAX

    run(tmp_path, main)


def spoiled(body: Body) -> list[Body]:
    """What could be made of a good message."""
    frames = body["frames"]
    return [
        {**body, "frames": frames[:-8]},
        {**body, "frames": frames[:10] + ("A" if frames[10] != "A" else "B") + frames[11:]},
        {**body, "frames": "ü" * 8},
        {**body, "frames": "A" * 7_400_000},
        {**body, "frames": ""},
        {**body, "frames": 7},
        {**body, "number": -1},
        {**body, "number": 1.5},
        {**body, "number": 1 << 60},
        {**body, "type": "distkit_bulk", "stream": "x", "asks": True},
        {**body, "type": "distkit_bulk", "stream": 1, "asks": True, "frames": ""},
        {**body, "type": "distkit_other"},
        {"type": "distkit_hello"},
        {"type": "distkit_hello", "hello": frames},
        {"type": "distkit_hello_ok", "to": body["to"], "hello": frames},
        {"type": "distkit_refused", "to": body["to"], "refusal": frames},
    ]


def test_nonsense_of_a_peer_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        follower = others(leader)[0]
        await cluster.write(leader, 1)
        network = network_of(cluster, leader)
        (*_, line) = lines_of(cluster, follower, leader)
        for body in spoiled(json.loads(line)["body"]):
            counted = network.counters["nonsense"]
            cluster.feed(leader, json.dumps({"src": follower, "dest": leader, "body": body}).encode() + b"\n")
            assert await cluster.read(leader) == {"type": "read_ok", "value": 1}
            assert network.counters["nonsense"] == counted + 1, body
        assert network.connected(number(follower))

    run(tmp_path, main)


def test_a_peer_that_lags_gets_the_snapshot_by_messages_and_over_lost_ones(tmp_path: Path) -> None:
    async def main(cluster: Cluster) -> None:
        leader = await cluster.formed()
        behind = others(leader)[0]
        cluster.cut = {behind}
        for value in range(30):
            await cluster.write(leader, value)
        bulk: list[Body] = []

        def lose(source: str, target: str, body: Body) -> bool:
            if body["type"] == "distkit_bulk":
                bulk.append(body)
            return body["type"] == "distkit_bulk" and len(bulk) in (1, 3)

        cluster.lose = lose
        cluster.cut = set()
        replica = cluster.nodes[behind].replica
        assert replica is not None
        await cluster.until(lambda: replica.machine.get("0") == b"29")
        assert len(bulk) >= 4

    run(tmp_path, main, snapshot_entries=10)
