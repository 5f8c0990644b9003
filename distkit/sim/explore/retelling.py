"""A way through the states of a cluster, told as what happens to its nodes: in words, and as a trace for a picture."""

from __future__ import annotations

from typing import Any

from distkit.core import LocalError, record
from distkit.sim.broken import Broken
from distkit.sim.explore.cluster import Cluster, Move
from distkit.sim.explore.node import Node
from distkit.sim.explore.search import Found, State


@record
class Step:
    """One move. `sent`: what left because of it for the first time, (target, message); `told`: where the node then
    stands; `role`: what it is doing, and in which term. All are empty for a move that breaks a rule."""

    move: Move
    text: str
    sent: tuple[tuple[int, Any], ...]
    told: str
    role: tuple[str, int] | None


def retell(cluster: Cluster, found: Found, broken: Broken) -> tuple[list[Step], Broken]:
    """The way to the rule that is `broken`, and what breaks there. Where states stood for others with other names, the
    names are now those of one run."""
    steps: list[Step] = []
    state = found.path[0] if found.path else cluster.first
    for wanted in found.path[1:]:
        move, state, step = _step(cluster, state, wanted)
        steps.append(step)
    if found.in_move:
        for move, after, _ in cluster.moves(state):
            if after is None:
                steps.append(Step(move, _text(cluster, move), (), "", None))
                return steps, cluster.error(state, move)
    return steps, broken


def _step(cluster: Cluster, state: State, wanted: State) -> tuple[Move, State, Step]:
    for move, after, place in cluster.moves(state):
        if after is not None and cluster.alike(after, wanted):
            before, node = cluster.node(place, state), cluster.node(place, after)
            sent = tuple(sorted(node.sent - before.sent, key=repr))
            told, role = cluster.subject.told(node), cluster.subject.role(node)
            return move, after, Step(move, _text(cluster, move, before), sent, told, role)
    raise LocalError(f"no move leads from {state} to {wanted}")


def _text(cluster: Cluster, move: Move, before: Node | None = None) -> str:
    """A move in words."""
    detail = move.detail
    if move.kind == "receive":
        late = "" if detail[0] == 0 else ", after a long silence"
        return f"node {move.node} receives from node {detail[1]}: {cluster.subject.shown(detail[2])}{late}"
    if move.kind == "complete":
        return (
            f"the disk of node {move.node} completes {'a write' if detail[0] == 1 else f'{detail[0]} writes at once'}"
        )
    if move.kind == "crash":
        flight = 0 if before is None else sum(len(write.records) for write in before.writes)
        lost = f", {detail[0]} of {flight} records in flight reach its disk" if flight else ""
        return f"node {move.node} crashes and starts again{lost}"
    if move.kind == "tick":
        return f"node {move.node}: its {detail[0].replace('_', ' ')} passes"
    return f"node {move.node} is called: {detail[0]}{detail[1]}"


def numbered(cluster: Cluster, steps: list[Step], broken: Broken) -> list[str]:
    """Lines for people."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"{number:>4}. {step.text}")
        lines += [f"          sends node {target} {cluster.subject.shown(message)}" for target, message in step.sent]
        if step.told:
            lines.append(f"          now {step.told}")
    return [*lines, f"      {broken}"]


def events(cluster: Cluster, steps: list[Step], broken: Broken) -> list[dict[str, Any]]:
    """A trace for `distkit.sim.picture`: one second a move. Everything sent has a number; what arrives nowhere is in
    flight for ever."""
    trace: list[dict[str, Any]] = []
    letters: dict[tuple[int, int, Any], int] = {}
    boots = dict.fromkeys(cluster.nodes, 1)
    roles = {name: cluster.subject.role(cluster.node(place, cluster.first)) for place, name in enumerate(cluster.nodes)}

    def tell(time: int, event: str, node: int, **fields: Any) -> None:
        trace.append({"seq": len(trace), "time": float(time), "event": event, "node": node, **fields})

    for node in cluster.nodes:
        tell(0, "restart", node, boot=1)
    for time, step in enumerate(steps, 1):
        move, name = step.move, step.move.node
        if move.kind == "receive":
            _, source, message = move.detail
            tell(time, "receive", name, id=letters[source, name, message], **{"from": source})
        elif move.kind == "crash":
            boots[name] += 1
            tell(time, "crash", name)
            tell(time, "restart", name, boot=boots[name])
        else:
            tell(time, move.detail[0] if move.kind == "call" else move.kind, name, what=step.text)
        if step.role not in (None, roles[name]):
            roles[name], (role, term) = step.role, step.role
            tell(time, "role", name, role=role, term=term)
        for target, message in step.sent:
            number = letters.setdefault((name, target, message), len(letters) + 1)
            kind = type(message).__name__
            tell(time, "send", name, id=number, to=target, message=kind, detail=cluster.subject.shown(message))
    tell(len(steps) + 1, "broken", 0, rule=broken.rule, text=str(broken))
    return trace
