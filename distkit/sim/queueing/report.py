"""A comparison as a page of HTML that a person can decide from: tables, curves, and how to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from distkit.sim.queueing.charts import colour, lines, seconds
from distkit.sim.queueing.compare import CURVE, Comparison, Interval
from distkit.sim.queueing.measures import MEASURES, WINDOWS

_TIMES = ("p50", "p90", "p99", "p999", "mean")
_SHARES = ("errors", "retries", "moved")
_QUANTILES = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"))

_STYLE = """
:root {
  color-scheme: light dark; --ink: #1d2530; --soft: #667085; --line: #dfe4ec; --paper: #fff; --ground: #f5f7fa;
  --good: #12805c; --good-ground: #e3f4ec; --band: #f2e6c9;
}
@media (prefers-color-scheme: dark) { :root {
  --ink: #e7ebf2; --soft: #98a2b3; --line: #2b3442; --paper: #171d27; --ground: #0f141b; --good: #47cd9b;
  --good-ground: #143528; --band: #3a3320;
} }
* { box-sizing: border-box; }
body { margin: 0; padding: 28px; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: auto; } h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 0 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 12px; max-width: 80ch; } .soft { color: var(--soft); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 20px; }
section { margin: 20px 0; overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0 18px; font-variant-numeric: tabular-nums; }
th { font-weight: 500; color: var(--soft); text-align: right; padding: 5px 10px; }
td { text-align: right; padding: 5px 10px; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.best { background: var(--good-ground); color: var(--good); font-weight: 600; }
small { color: var(--soft); font-weight: 400; margin-left: 4px; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; }
.swatch { margin-right: 8px; vertical-align: -1px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 20px; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); } .grid { stroke: var(--line); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .band { fill: var(--band); }
""".strip()

_READING = """
All policies have met the very same requests. Numbers are means over the seeds, with half of the width of their 95 %
confidence interval behind them. Green is the best by a measure, and everything that can't be told from it: the
difference, seed by seed, may be nothing. Latencies are those of requests that were answered, attempts before the last
included; errors are requests without an answer.
"""


def report(comparisons: Sequence[Comparison], command: str = "") -> str:
    """The page. `command` is what made it, for the reader who wants to make it again."""
    first = comparisons[0]
    seeds = f"{len(first.seeds)} seeds" if len(first.seeds) > 1 else "one seed"
    requests = f"{first.scenario.requests:,} requests each"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Balancing policies compared</title><style>{_STYLE}</style><main>",
        "<h1>Balancing policies compared</h1>",
        f'<p class="soft">{seeds}, {requests}{f": <code>{escape(command)}</code>" if command else ""}</p>',
        f"<p>{escape(_READING.strip())}</p>",
    ]
    if len(comparisons) > 1:
        parts.append(_overview(comparisons))
    parts += [_section(each) for each in comparisons]
    return "".join([*parts, "</main></html>\n"])


def _overview(comparisons: Sequence[Comparison]) -> str:
    """Policies by scenarios: how many times the best p99 theirs is."""
    policies = list(comparisons[0].outcomes)
    head = "".join(
        f'<th><a href="#{escape(each.scenario.name)}">{escape(each.scenario.name)}</a></th>' for each in comparisons
    )
    rows = []
    for place, policy in enumerate(policies):
        cells = []
        for each in comparisons:
            means = {name: each.interval(name, "p99").mean for name in policies}
            least = min((mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
            errors = each.interval(policy, "errors").mean
            lost = f"<small>{errors:.2%} lost</small>" if errors >= 0.0005 else ""
            best = ' class="best"' if policy in each.best("p99") and not lost else ""
            cells.append(f"<td{best}>{means[policy] / least:.2f}{lost}</td>")
        rows.append(f"<tr><td>{_named(policy, place)}</td>{''.join(cells)}</tr>")
    about = "How many times the best policy's 99th percentile each has; where requests are lost, that counts more."
    table = f"<table><tr><th>policy</th>{head}</tr>{''.join(rows)}</table>"
    return f"<section><h2>At a glance</h2><p>{about}</p>{table}</section>"


def _section(comparison: Comparison) -> str:
    scenario = comparison.scenario
    latencies = {
        policy: list(zip([-math.log10(1 - each) for each in CURVE[:-1]], comparison.curve(policy)[:-1], strict=True))
        for policy in comparison.outcomes
    }
    return "".join(
        (
            f'<section id="{escape(scenario.name)}"><h2>{escape(scenario.name)}</h2>',
            f"<p>{escape(scenario.about)} {_finding(comparison)}</p>",
            _table(comparison),
            '<div class="charts"><div><h3>Latency by quantile</h3>',
            lines(
                latencies,
                ticks=[(-math.log10(1 - at), label) for at, label in _QUANTILES],
                x_name="share of requests that are quicker",
                y_name="latency",
                format_y=seconds,
            ),
            "</div><div><h3>99th percentile over the run</h3>",
            lines(
                {
                    policy: [
                        ((place + 0.5) / WINDOWS, value) for place, value in enumerate(comparison.over_time(policy))
                    ]
                    for policy in comparison.outcomes
                },
                ticks=[(0.0, "begin"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "end")],
                x_name="shaded: some server is not as usual",
                y_name="p99",
                format_y=seconds,
                bands=_bands(comparison),
            ),
            "</div></div></section>",
        )
    )


def _table(comparison: Comparison) -> str:
    base = next(iter(comparison.outcomes))
    names = [
        name for name in MEASURES if any(not _nothing(comparison.interval(each, name)) for each in comparison.outcomes)
    ]
    best = {name: comparison.best(name) for name in names}
    head = "".join(f"<th>{escape(MEASURES[name][0])}</th>" for name in names)
    against = f"<th>p99 of {escape(base)}'s</th>" if len(comparison.outcomes) > 1 else ""
    rows = []
    for place, policy in enumerate(comparison.outcomes):
        cells = "".join(
            f"<td{' class=best' if policy in best[name] else ''}>{shown(name, comparison.interval(policy, name))}</td>"
            for name in names
        )
        ratio = comparison.ratio(policy, base, "p99") if policy != base else None
        if against:
            cells += f"<td>{_with_half(f'x {ratio.mean:.3g}', f'{ratio.half:.2g}', ratio) if ratio else '1'}</td>"
        rows.append(f"<tr><td>{_named(policy, place)}</td>{cells}</tr>")
    return f"<table><tr><th>policy</th>{head}{against}</tr>{''.join(rows)}</table>"


def _finding(comparison: Comparison) -> str:
    """The tail in a sentence."""
    means = {policy: comparison.interval(policy, "p99").mean for policy in comparison.outcomes}
    known = {policy: mean for policy, mean in means.items() if not math.isnan(mean)}
    if len(known) < 2:
        return ""
    first, last = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    times = known[last] / known[first]
    if last in comparison.best("p99"):
        return "The policies can't be told apart by their 99th percentile."
    return (
        f"<b>{escape(first)} has the lowest 99th percentile, {seconds(known[first])}; "
        f"that of {escape(last)} is {times:.3g} times as high.</b>"
    )


def _bands(comparison: Comparison) -> list[tuple[float, float]]:
    at = sorted({change.at for change in comparison.scenario.changes})
    return [(at[0], at[-1] if len(at) > 1 else 1.0)] if at else []


def _nothing(found: Interval) -> bool:
    return math.isnan(found.mean) or (found.mean == 0 and not found.half > 0)


def shown(name: str, found: Interval, between: str = "") -> str:
    """A measure for people: with `between`, plain text that has it before half of the interval."""
    if math.isnan(found.mean):
        return "-"
    if name in _TIMES:
        return _with_half(seconds(found.mean), seconds(found.half), found, between)
    if name in _SHARES:
        return _with_half(f"{found.mean:.2%}", f"{found.half:.1%}", found, between)
    if name == "goodput":
        return _with_half(f"{found.mean:,.0f}", f"{found.half:,.0f}", found, between)
    return _with_half(f"{found.mean:.3f}", f"{found.half:.1g}", found, between)


def _with_half(mean: str, half: str, found: Interval, between: str = "") -> str:
    if math.isnan(found.half):
        return mean
    return f"{mean}{between}{half}" if between else f"{mean}<small>&plusmn; {half}</small>"


def _named(policy: str, place: int) -> str:
    return f'<span class="swatch" style="background: {colour(place)}"></span>{escape(policy)}'
