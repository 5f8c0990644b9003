"""The demo's picture is well-formed and shows what happened."""

import xml.etree.ElementTree as ElementTree

from demo_picture import Run, draw


class Journal:
    def __init__(self):
        self.latencies = [(second / 10, 0.004) for second in range(100)]


def infos(leader, term, down=()):
    return {
        node: {} if node in down else {"raft_role": "leader" if node == leader else "follower", "term": str(term)}
        for node in (1, 2, 3)
    }


def texts(run):
    root = ElementTree.fromstring(draw(run, Journal()))
    return [element.text for element in root.iter() if element.tag.endswith("text")]


def test_it_shows_the_kill_the_gap_the_restart_and_who_led():
    run = Run(10.0, killed_node=3, killed_at=5.0, restarted_at=7.0, recovered_at=5.033)
    run.saw(1.0, infos(3, 1))
    run.saw(5.1, infos(0, 1, down=(3,)))
    run.saw(5.3, infos(2, 2, down=(3,)))
    run.saw(8.0, infos(2, 2))
    shown = texts(run)
    assert "kill -9 of node 3, next write after 33 ms" in shown
    assert {"started again", "term 1", "term 2", "down", "p50", "p99"} <= set(shown)


def test_a_run_without_events_is_drawn_too():
    shown = texts(Run(4.0))
    assert not any("kill" in text for text in shown)
