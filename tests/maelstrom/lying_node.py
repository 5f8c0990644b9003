#!/usr/bin/env python3
"""maelstrom_node with a lie, for the runner to catch: `--lie stale` answers reads from what this node has applied,
`--lie certain` says of what may have been done that it was not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import maelstrom_node
from maelstrom_kv import MISSING
from maelstrom_wire import Code, Message, canonical


class StaleNode(maelstrom_node.Node):
    """Reads what it has."""

    def _on_read(self, message: Message) -> None:
        value = self._open().machine.get(canonical(message.body["key"]))
        self._answer(message, MISSING if value is None else {"type": "read_ok", "value": json.loads(value)})


class CertainNode(maelstrom_node.Node):
    """Takes an unknown outcome for none."""

    def _answer(self, message: Message, body: dict[str, object]) -> None:
        if body.get("code") == Code.CRASH:
            body = {**body, "code": int(Code.UNAVAILABLE)}
        super()._answer(message, body)


if __name__ == "__main__":
    place = sys.argv.index("--lie")
    _, lie = sys.argv[place : place + 2]
    del sys.argv[place : place + 2]
    maelstrom_node.Node = {"stale": StaleNode, "certain": CertainNode}[lie]  # type: ignore[misc]
    sys.exit(maelstrom_node.main())
