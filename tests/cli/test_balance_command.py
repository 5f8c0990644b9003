"""`python -m distkit balance`: tables, lines, a page, and mistakes by name."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distkit.balance import policies
from distkit.cli import commands
from distkit.cli.balance import options_of
from distkit.core import LocalError


def balance(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["balance", *arguments])


def test_a_comparison_prints_a_table_writes_lines_and_a_page(tmp_path: Path) -> None:
    page, lines = tmp_path / "out.html", tmp_path / "lines.json"
    arguments = ["--compare", "round_robin,p2c", "--scenario", "even,leak", "--seeds", "0:2", "--requests", "1000"]
    result = balance(*arguments, "--report", str(page), "--json", str(lines))
    assert result.exit_code == 0, result.output
    assert "round_robin" in result.output
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(each["scenario"], each["policy"], each["seed"]) for each in found] == [
        (scenario, policy, seed)
        for scenario in ("even", "leak")
        for policy in ("round_robin", "p2c")
        for seed in (0, 1)
    ]
    assert all(each["p99"] > 0 and each["moved"] is None for each in found)
    assert "At a glance" in page.read_text()


def test_jobs_change_nothing(tmp_path: Path) -> None:
    pages = []
    for jobs in ("1", "2"):
        page = tmp_path / jobs
        result = balance(
            *("--compare", "random,p2c", "--seeds", "0:3", "--requests", "500", "--jobs", jobs, "--json", str(page))
        )
        assert result.exit_code == 0, result.output
        pages.append(page.read_text())
    assert pages[0] == pages[1]


def test_options_and_health_are_written_behind_a_name() -> None:
    found = options_of("least_request:choices=3:replacement=true+outliers")
    assert found.policy == policies.named("least_request", choices=3, replacement=True)
    assert found.outliers is not None
    assert found.checks is None
    assert options_of("least_connections:ties=random+checks").checks is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", "there is no policy 'best'"),
        ("least_request:choises=3", "has no option 'choises'"),
        ("least_request:choices", "options are written name=value, not 'choices'"),
        ("least_request+health", "behind a [+] stands one of outliers, checks, not 'health'"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(LocalError, match=message):
        options_of(text)
    result = balance("--compare", text)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_unknown_scenario_and_no_policy_are_named() -> None:
    result = balance("--compare", "p2c", "--scenario", "nowhere")
    assert (result.exit_code, "there is no scenario 'nowhere'" in result.output) == (2, True)
    assert balance().exit_code == 2


def test_what_there_is_can_be_listed() -> None:
    result = balance("--list")
    assert result.exit_code == 0
    assert "slow-servers" in result.output
    assert "least_connections" in result.output
