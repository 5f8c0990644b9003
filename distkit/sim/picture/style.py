"""Colours and shapes. Red is for what goes wrong, strong fills are for terms, thin lines for messages."""

from __future__ import annotations

from typing import Final

_LIGHT: Final = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "soft": "#656d76",
    "line": "#8c959f",
    "faint": "#d0d7de",
    "on-term": "#ffffff",
    "vote": "#8250df",
    "append": "#0969da",
    "reply": "#57809e",
    "heartbeat": "#9aa5b1",
    "other": "#8b5e3c",
    "wrong": "#cf222e",
    "done": "#1a7f37",
    "refused": "#9a6700",
    "t0": "#b0720a",
    "t1": "#1f7a55",
    "t2": "#b02f77",
    "t3": "#0b7285",
    "t4": "#c2500f",
    "t5": "#66751a",
}
_DARK: Final = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "line": "#768390",
    "faint": "#30363d",
    "on-term": "#0d1117",
    "vote": "#b083f0",
    "append": "#58a6ff",
    "reply": "#8fb3cc",
    "heartbeat": "#6e7681",
    "other": "#d4a27f",
    "wrong": "#ff6b63",
    "done": "#3fb950",
    "refused": "#d29922",
    "t0": "#e3a63c",
    "t1": "#4cc38a",
    "t2": "#f069b0",
    "t3": "#3fc1d3",
    "t4": "#ff8f4d",
    "t5": "#b5c447",
}
#: So many colours for terms, in turn.
TERMS: Final = 6


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


COLOURS: Final = (
    f":root{{color-scheme:light dark;{_variables(_LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(_DARK)}}}}}"
)

_PER_TERM: Final = "".join(f".t{number}{{--term:var(--t{number})}}" for number in range(TERMS))
_PER_KIND: Final = "".join(
    f".{kind}{{--kind:var(--{kind})}}.without-{kind} .strip .m.{kind}{{display:none}}"
    for kind in ("vote", "append", "reply", "heartbeat", "other")
)

STYLE: Final = f"""{COLOURS}{_PER_TERM}{_PER_KIND}
text{{font:11px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}}
.paper{{fill:var(--paper)}} .name{{font-weight:600;font-size:12px}}
.small,.break text{{fill:var(--soft);font-size:10.5px}}
.grid{{stroke:var(--faint);stroke-opacity:.6}} .ground{{stroke:var(--line);stroke-opacity:.25;stroke-dasharray:1 4}}
rect.term{{fill:var(--term);fill-opacity:.1}} text.term{{fill:var(--term);font-size:9.5px}}
.commit text,text.term{{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-opacity:.8}}
.follower rect{{fill:var(--line)}}
.leader rect{{fill:var(--term)}} .leader text{{fill:var(--on-term);font-weight:600}}
.candidate rect{{fill:var(--paper);stroke:var(--term);stroke-width:1.6;stroke-dasharray:3 2}}
.down rect{{fill:var(--paper);stroke:var(--wrong);stroke-opacity:.35;stroke-dasharray:2 3}}
.down text{{fill:var(--wrong)}}
.paused rect{{fill:var(--paper);fill-opacity:.6;stroke:var(--soft);stroke-dasharray:4 3}}
.paused text{{fill:var(--soft)}}
.m path{{stroke:var(--kind);stroke-width:1.3;fill:none}} marker path{{fill:var(--kind)}}
.m .near{{stroke:transparent;stroke-width:9}} .m.heartbeat{{opacity:.45}}
.m.again path{{stroke-dasharray:4 3}} .m.lost path{{stroke-dasharray:5 2}} .m.flies path{{stroke-dasharray:1 3}}
.m .near,.m .cross{{stroke-dasharray:none!important}}
.cross path,.m .cross{{stroke:var(--wrong);stroke-width:1.8;fill:none}} .cross>path{{stroke-width:3}}
.m:hover{{opacity:1}} .m:hover path{{stroke-width:3}} .m:hover .near{{stroke-width:9}}
.cut rect{{fill:url(#hatch)}} .cut path{{stroke:var(--wrong);stroke-opacity:.5;stroke-dasharray:4 3}}
.cut .wall{{stroke-width:2;stroke-opacity:.5;stroke-dasharray:8 4}}
.cut text{{fill:var(--wrong);font-weight:600}} #hatch path{{stroke:var(--wrong);stroke-opacity:.13;stroke-width:2.5}}
.commit path{{stroke:var(--ink);stroke-width:1.6}} .commit text{{font-size:9.5px}}
.start path{{fill:var(--done)}} .mark path{{fill:var(--soft)}} .dot path{{fill:var(--soft);fill-opacity:.6}}
.op rect{{fill-opacity:.85}} .op .in{{fill:var(--paper)}} .op.done rect{{fill:var(--done)}}
.op.refused rect{{fill:var(--refused)}} .op.unknown rect{{fill:var(--wrong)}}
.op.open rect{{fill:none;stroke:var(--wrong);stroke-dasharray:4 3}} .op.open .in{{fill:var(--ink)}}
.break rect{{fill:var(--paper)}} .break path{{stroke:var(--line);fill:none}}
.broken path{{stroke:var(--wrong);stroke-width:2.5}} .broken circle{{fill:none;stroke:var(--wrong);stroke-width:2.5}}
.broken rect{{fill:var(--wrong)}} .broken text{{fill:var(--paper);font-weight:600}}
.badge circle{{fill:var(--ink)}} .badge text{{fill:var(--paper);font-size:10px;font-weight:700}}
.key[data-kind]{{cursor:pointer}} .key.off{{opacity:.35}}
"""

PAGE: Final = """
body{margin:0 auto;padding:24px;max-width:1400px;background:var(--paper);color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:24px;margin:0 0 4px} p{margin:0 0 12px;color:var(--soft)}
.verdict{color:var(--wrong);font-weight:600;white-space:pre-line}
ol{list-style:none;padding:0;margin:0 0 20px;columns:2 420px;column-gap:40px}
li{break-inside:avoid;padding:2px 0 2px 30px;position:relative}
li>b{position:absolute;left:0;top:4px;width:20px;height:20px;border-radius:10px;background:var(--ink);color:var(--paper);
  font-size:11px;line-height:20px;text-align:center}
li.earlier{color:var(--soft)} li.earlier>b{background:none;border:2px solid var(--faint);
  width:8px;height:8px;left:4px;top:9px}
li.broken{color:var(--wrong);font-weight:600} li.broken>b{background:var(--wrong)}
time{color:var(--soft);font-variant-numeric:tabular-nums;font-size:13px;margin-right:4px}
.picture{width:100%;height:auto}
#said{position:fixed;pointer-events:none;white-space:pre;background:var(--ink);color:var(--paper);padding:6px 10px;
  border-radius:6px;font-size:13px;line-height:1.4;max-width:90vw;overflow:hidden;z-index:1}
"""

#: Says at once what the pointer is on, and lets the legend hide a kind of message. Without it the page is complete:
#: browsers show the same words after a while.
SCRIPT: Final = """
const picture = document.querySelector(".picture"), said = document.getElementById("said");
picture.addEventListener("mousemove", event => {
  const thing = event.target.closest("g:has(> title), g[data-said]");
  const title = thing && thing.querySelector(":scope > title");
  if (title) { thing.dataset.said = title.textContent; title.remove(); }
  said.hidden = !thing;
  if (!thing) return;
  said.textContent = thing.dataset.said;
  const right = event.clientX + 16 + said.offsetWidth > innerWidth;
  said.style.left = (right ? event.clientX - 16 - said.offsetWidth : event.clientX + 16) + "px";
  said.style.top = Math.min(event.clientY + 16, innerHeight - said.offsetHeight - 8) + "px";
});
picture.addEventListener("mouseleave", () => { said.hidden = true; });
picture.addEventListener("click", event => {
  const key = event.target.closest("[data-kind]");
  if (key) { key.classList.toggle("off"); picture.classList.toggle("without-" + key.dataset.kind); }
});
"""
