"""What the documents say works: links lead somewhere, and blocks that are marked as runnable run.

A block is runnable if `<!-- run -->` stands before it: a program that ends by itself. `<!-- run: NAME -->` names one
that a test here drives; a name without a test fails.
"""

import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import pytest
import trio

from distkit.transport import Credentials, TlsFiles
from distkit.transport.credentials import KEY_BYTES_MIN

ROOT = Path(__file__).parents[2]
DRIVEN = {"key", "certificates", "counter", "blocking"}

_BLOCK = re.compile(
    r"^<!-- run(?:: (?P<name>\w+))? -->\n+```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"^<!-- run", re.MULTILINE)
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^()\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """The project's own documents, not those in folders that begin with a dot."""
    found = [
        path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    return sorted(found)


def anchor(heading: str) -> str:
    """The name under which a heading is linked."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(path: Path) -> list[str]:
    """Relative links of a document that lead to no file, or to no heading of it."""
    text = _CODE.sub("", path.read_text())
    broken = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists():
            broken.append(link)
        elif fragment and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", target.read_text(), flags=re.M | re.S), re.M)
            if fragment not in map(anchor, headings):
                broken.append(link)
    return broken


def blocks() -> dict[str, tuple[str, str]]:
    """(language, code) of the runnable blocks of all documents; those without a name by document and number."""
    found: dict[str, tuple[str, str]] = {}
    for path in documents():
        for number, match in enumerate(_BLOCK.finditer(path.read_text())):
            name = match["name"] or f"{path.name}:{number}"
            assert name not in found, f"two blocks are named {name}"
            found[name] = (match["language"], match["code"])
    return found


BLOCKS = blocks()


def shell(name: str, folder: Path) -> None:
    language, code = BLOCKS[name]
    assert language == "sh"
    subprocess.run(["sh", "-eu", "-c", code], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title: it's\n[a](#a-title-its) [b](none.md) [c](#none) [d](https://x.org/none) `[e](none)` [f](page.md)\n"
    )
    assert broken_links(page) == ["none.md", "#none"]


def test_every_mark_stands_before_a_block_that_is_run() -> None:
    marks = sum(len(_MARK.findall(path.read_text())) for path in documents())
    assert marks == len(BLOCKS)
    assert {name for name in BLOCKS if ":" not in name} <= DRIVEN


def test_every_program_runs_to_its_end(tmp_path: Path) -> None:
    for name, (language, code) in BLOCKS.items():
        if ":" not in name:
            continue
        command = [sys.executable, "-c", code] if language == "python" else ["sh", "-eu", "-c", code]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, f"{name}: {result.stderr}"


def test_the_shared_key_is_one_that_a_node_takes(tmp_path: Path) -> None:
    shell("key", tmp_path)
    key = Credentials.load(key_file=tmp_path / "cluster.key").key
    assert key is not None
    assert len(key) >= KEY_BYTES_MIN


def test_the_certificates_are_those_that_nodes_take(tmp_path: Path, program: Callable[[str], str]) -> None:
    program("openssl")
    shell("certificates", tmp_path)
    for node in (1, 2, 3):
        files = TlsFiles(tmp_path / f"node-{node}.pem", tmp_path / f"node-{node}.key", tmp_path / "authority.pem")
        other = TlsFiles(tmp_path / f"node-{node % 3 + 1}.pem", tmp_path / f"node-{node % 3 + 1}.key", files.authority)
        names = handshake(Credentials(tls=files), Credentials(tls=other))
        assert names == frozenset({("DNS", f"node-{node}.distkit")})


def handshake(client: Credentials, server: Credentials) -> Any:
    """The names that the server sees in the client's certificate, after a mutual TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context, server_context = client.client_context(), server.server_context()
    assert client_context is not None
    assert server_context is not None
    ends = [
        client_context.wrap_bio(to_client, to_server),
        server_context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[1].getpeercert()
    assert certificate is not None
    return frozenset(certificate["subjectAltName"])


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working directory and holds the named Python blocks as modules, at free ports."""
    ports: dict[str, str] = {}

    def free(match: re.Match[str]) -> str:
        if match[0] not in ports:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                ports[match[0]] = f"127.0.0.1:{sock.getsockname()[1]}"
        return ports[match[0]]

    for name, (language, code) in BLOCKS.items():
        if ":" not in name and language == "python":
            (tmp_path / f"{name}.py").write_text(re.sub(r"127\.0\.0\.1:\d+", free, code))
            monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def count(nodes: tuple[int, ...], note: Callable[[Any], None], scope: trio.CancelScope) -> None:
    """Run the counter as these nodes, until the scope is cancelled; `note` gets what it prints."""
    counter = import_module("counter")
    counter.print = note  # type: ignore[attr-defined]
    with scope:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(counter.main, node)


def test_three_counters_agree(modules: Path) -> None:
    printed: list[Any] = []
    scope = trio.CancelScope()

    def note(line: Any) -> None:
        printed.append(line)
        if len(printed) == 6:
            scope.cancel()

    trio.run(count, (1, 2, 3), note, scope)
    assert sorted(line for line in printed if isinstance(line, bytes)) == [b"10", b"15", b"5"]
    assert {line for line in printed if isinstance(line, int)} <= {5, 10, 15}


def test_the_blocking_door_serves_a_web_program(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flask:
        def __init__(self, name: str) -> None: ...

        def post(self, route: str) -> Any:
            return lambda view: view

        get = post

    flask = ModuleType("flask")
    flask.Flask = Flask  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flask", flask)
    printed: SimpleQueue[Any] = SimpleQueue()
    tokens: SimpleQueue[trio.lowlevel.TrioToken] = SimpleQueue()
    scope = trio.CancelScope()

    async def others() -> None:
        tokens.put(trio.lowlevel.current_trio_token())
        await count((2, 3), printed.put, scope)

    thread = threading.Thread(target=trio.run, args=(others,))
    thread.start()
    service = import_module("blocking")
    try:
        service.replica.wait_leader(timeout=30)
        lines = [printed.get(timeout=30) for _ in range(4)]
        assert sorted(line for line in lines if isinstance(line, bytes)) == [b"10", b"5"]
        assert service.add(7) == b"17"
        assert service.value() == "17"
    finally:
        service.replica.close()
        tokens.get(timeout=30).run_sync_soon(scope.cancel)
        thread.join()


def test_every_configuration_of_the_proxy_in_its_document_is_read() -> None:
    from proxy_config import ClusterConfig, ListenerConfig, ProxyConfig
    from toml_records import read_records

    text = (ROOT / "docs" / "proxy.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    small, full = (read_records(ProxyConfig, block) for block in blocks if "[listen." in block)
    assert len(small.cluster["app"].endpoints) == 2
    # "What is shown is the default", but for what has none.
    shown = {"address", "cluster", "endpoints", "checks", "outliers", "slow_start", "zones", "policy"}
    for found, default in (
        (full.listen["web"], ListenerConfig("127.0.0.1:1", "app")),
        (full.cluster["app"], ClusterConfig(endpoints=full.cluster["app"].endpoints)),
    ):
        for name in vars(default):
            assert name in shown or getattr(found, name) == getattr(default, name), name
            assert re.search(rf"\b{name}\b", "".join(blocks[1:])), f"{name} is not shown"
