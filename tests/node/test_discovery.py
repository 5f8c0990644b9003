"""Where endpoints come from: what is known stays while nobody answers, and what the API server says is followed."""

import json
import random
import socket
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
import trio.testing

from distkit import LocalError
from distkit.node import discovery
from distkit.node.discovery import ApiServer, DiscoveryError, SliceSet, follow_name, follow_service

# -- names -------------------------------------------------------------------------------------------------------------


class Resolver(trio.abc.HostnameResolver):
    """Answers with each of these in turn, the last for ever; an exception is raised."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers = list(answers)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, type, 6, "", (each, port)) for each in answer]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


def resolved(*answers: list[str] | OSError) -> list[tuple[str, ...]]:
    """What `follow_name` calls back with over ten look-ups."""
    seen: list[tuple[str, ...]] = []

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Resolver(*answers))
        with trio.move_on_after(9.5):
            await follow_name("app.internal:80", seen.append, interval=1.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return seen


def test_all_addresses_of_a_name_are_told_once_and_again_when_they_change() -> None:
    assert resolved(["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.3"]) == [
        ("10.0.0.1:80", "10.0.0.2:80"),
        ("10.0.0.3:80",),
    ]


def test_a_failed_look_up_and_an_empty_one_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert resolved(["10.0.0.1"], OSError("down"), [], ["10.0.0.1"]) == [("10.0.0.1:80",)]
    assert "1 known addresses stay: down" in caplog.text


# -- the set of slices -------------------------------------------------------------------------------------------------


def piece(name: str, version: str, address: str = "10.0.0.1") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}, "endpoints": [{"addresses": [address]}]}


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


def listing(*items: dict[str, Any], version: str = "5") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": list(items)}


def test_events_keep_the_slices_and_the_version_up_to_date() -> None:
    known = SliceSet()
    known.listed(listing(piece("b", "3"), piece("a", "4")))
    assert ([each["metadata"]["name"] for each in known.slices], known.version) == (["a", "b"], "5")
    assert known.watched(event("MODIFIED", piece("a", "6", "10.0.0.9")))
    assert known.slices[0]["endpoints"][0]["addresses"] == ["10.0.0.9"]
    assert known.watched(event("ADDED", piece("c", "7")))
    assert not known.watched(event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
    assert known.watched(event("DELETED", piece("b", "10")))
    assert not known.watched(event("DELETED", piece("b", "11")))
    assert ([each["metadata"]["name"] for each in known.slices], known.version) == (["a", "c"], "11")


def test_an_expired_watch_asks_for_a_new_list() -> None:
    known = SliceSet()
    known.listed(listing(piece("a", "1")))
    with pytest.raises(DiscoveryError, match="too old resource version"):
        known.watched(event("ERROR", {"code": 410, "message": "too old resource version"}))
    assert known.version == ""
    assert len(known.slices) == 1


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"items": 3}, {"items": []}, listing({"metadata": {}}), listing({"metadata": {"name": 3}})]
)
def test_what_is_no_list_is_refused_and_changes_nothing(answer: Any) -> None:
    known = SliceSet()
    known.listed(listing(piece("a", "1")))
    with pytest.raises(DiscoveryError):
        known.listed(answer)
    assert (len(known.slices), known.version) == (1, "5")


@pytest.mark.parametrize("bad", [None, 3, {}, {"type": "ADDED"}, event("ADDED", {}), event("MOVED", piece("a", "1"))])
def test_what_is_no_event_is_refused(bad: Any) -> None:
    with pytest.raises(DiscoveryError):
        SliceSet().watched(bad)


# -- the API server ----------------------------------------------------------------------------------------------------


class Server:
    """An API server that answers each request with the next script: (status, pieces), or None to close at once."""

    def __init__(self, *scripts: tuple[int, list[bytes]] | None) -> None:
        self.scripts = list(scripts)
        self.requests: list[tuple[str, dict[bytes, bytes]]] = []
        self.exhausted = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while (request := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        assert isinstance(request, h11.Request)
        self.requests.append((request.target.decode(), dict(request.headers)))
        if not self.scripts:
            self.exhausted.set()
            await trio.sleep_forever()
        script = self.scripts.pop(0)
        if script is None:
            return
        status, pieces = script
        head = h11.Response(status_code=status, headers=[("Transfer-Encoding", "chunked")])
        await stream.send_all(connection.send(head) or b"")
        for each in pieces:
            await stream.send_all(connection.send(h11.Data(data=each)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")


def followed(monkeypatch: pytest.MonkeyPatch, server: Server, token: Path | None = None) -> list[list[tuple[str, str]]]:
    """What `follow_service` calls back with until the scripts have been played."""
    seen: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(discovery, "RETRY_MIN", 0.001)

    def changed(slices: tuple[dict[str, Any], ...]) -> None:
        seen.append([(each["metadata"]["name"], each["endpoints"][0]["addresses"][0]) for each in slices])

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        api = ApiServer(f"127.0.0.1:{listener.socket.getsockname()[1]}", token)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, server.serve, [listener])
                nursery.start_soon(follow_service, api, "here", "app", changed, random.Random(1))
                await server.exhausted.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    return seen


def encoded(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in values)


def test_a_service_is_listed_and_then_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    events = encoded(event("ADDED", piece("b", "6", "10.0.0.2")), event("DELETED", piece("a", "7")))
    server = Server((200, [encoded(listing(piece("a", "1")))]), (200, [events[:30], events[30:]]))
    assert followed(monkeypatch, server, token) == [[("a", "10.0.0.1")], [("b", "10.0.0.2")]]
    list_request, watch_request, again = server.requests
    assert list_request[0] == (
        "/apis/discovery.k8s.io/v1/namespaces/here/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dapp"
    )
    assert list_request[1][b"authorization"] == b"Bearer secret"
    assert watch_request[0].endswith("&watch=1&allowWatchBookmarks=true&timeoutSeconds=240&resourceVersion=5")
    assert again[0].endswith("resourceVersion=7")


def test_a_forgotten_version_is_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = encoded(event("ERROR", {"code": 410, "message": "too old"}))
    first, second = (200, [encoded(listing(piece("a", "1")))]), (200, [encoded(listing(piece("c", "8"), version="8"))])
    assert followed(monkeypatch, Server(first, (200, [gone]), second)) == [[("a", "10.0.0.1")], [("c", "10.0.0.1")]]
    assert followed(monkeypatch, Server(first, (410, []), second)) == [[("a", "10.0.0.1")], [("c", "10.0.0.1")]]


@pytest.mark.parametrize(
    "failure", [None, (500, []), (200, [b"no json\n"]), (200, [b"[" * 100000 + b"\n"]), (200, [b'{"type": 3}\n'])]
)
def test_failures_are_tried_again_and_forget_nobody(
    monkeypatch: pytest.MonkeyPatch, failure: tuple[int, list[bytes]] | None
) -> None:
    good = (200, [encoded(event("ADDED", piece("b", "6", "10.0.0.2")))])
    server = Server((200, [encoded(listing(piece("a", "1")))]), failure, good)
    assert followed(monkeypatch, server)[-1] == [("a", "10.0.0.1"), ("b", "10.0.0.2")]


def test_what_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(discovery, "OBJECT_BYTES_MAX", 1000)
    monkeypatch.setattr(discovery, "LIST_BYTES_MAX", 1000)
    good = (200, [encoded(listing(piece("a", "1")))])
    followed(monkeypatch, Server((200, [b"x" * 2000]), good, (200, [b"x" * 2000])))
    assert "the list is larger than 1000 bytes" in caplog.text
    assert "an event is larger than 1000 bytes" in caplog.text


def test_outside_of_kubernetes_there_is_no_api_server(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="this is no pod"):
        ApiServer.in_cluster({})
    with pytest.raises(LocalError, match=r"ca.crt can't be used"):
        ApiServer.in_cluster({"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
