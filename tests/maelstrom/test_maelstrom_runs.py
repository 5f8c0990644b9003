"""Real nodes under the lin-kv workload on a bad network, killed, stopped and robbed; and the runner catches liars."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from routing import Conditions
from runner import Plan, Report, run

from distkit.sim.linear import Result

pytestmark = pytest.mark.process

LIAR = Path(__file__).with_name("lying_node.py")


def report_of(plan: Plan, home: Path) -> Report:
    return trio.run(run, plan, home)


def test_nodes_that_are_killed_and_cut_off_stay_linearizable(tmp_path: Path) -> None:
    plan = Plan(seconds=6, seed=7, nemesis=("kill", "kill-all", "partition"), interval=0.8)
    report = report_of(plan, tmp_path)
    assert report.status == 0, report.text()
    assert any("started again" in event for event in report.events)
    assert report.messages["cut"] > 0


def test_stopped_and_wiped_nodes_on_a_bad_network_stay_linearizable(tmp_path: Path) -> None:
    plan = Plan(
        seconds=8,
        seed=11,
        nemesis=("pause", "wipe", "partition"),
        interval=0.8,
        conditions=Conditions(0.002, "exponential", loss=0.02, duplicates=0.1),
        options=("--election-timeout=0.5", "--snapshot-entries=40"),
    )
    report = report_of(plan, tmp_path)
    assert report.status == 0, report.text()
    assert any("was refused" in event for event in report.events)
    assert min(report.messages["copies"], report.messages["lost"]) > 0


def test_five_nodes_and_two_groups_of_workers(tmp_path: Path) -> None:
    plan = Plan(nodes=5, seconds=4, seed=3, rate=100, concurrency=20, nemesis=("kill",), interval=0.5)
    report = report_of(plan, tmp_path)
    assert report.status == 0, report.text()


def test_reads_that_do_not_go_through_the_log_are_caught(tmp_path: Path) -> None:
    plan = Plan(seconds=4, seed=1, rate=200, program=LIAR, options=(*Plan.options, "--lie", "stale"))
    report = report_of(plan, tmp_path)
    assert report.verdict.result is Result.ILLEGAL, report.text()
    assert report.status == 1


def test_refusals_of_what_may_be_done_are_caught(tmp_path: Path) -> None:
    options = (*Plan.options, "--lie", "certain")
    plan = Plan(seconds=5, seed=2, rate=200, conditions=Conditions(loss=0.3), program=LIAR, options=options)
    report = report_of(plan, tmp_path)
    assert report.verdict.result is Result.ILLEGAL, report.text()
