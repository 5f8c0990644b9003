"""Pictures of runs: every thing has its place, words say what happened, nothing that is drawn can do harm or grow."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
import traces
from traces import Event

from distkit.core import LocalError
from distkit.sim.picture import draw, figure
from distkit.sim.picture.axis import BREAK, Axis
from distkit.sim.picture.layout import STRIP
from distkit.sim.picture.run import NODES_MAX
from distkit.sim.picture.story import cut_text

SVG = "{http://www.w3.org/2000/svg}"
RUNS = {run.__name__: run for run in (traces.election, traces.split_vote, traces.partition, traces.double_leader)}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> list[Event]:
    return RUNS[request.param]()


def event(time: float, name: str, node: int = 0, **fields: Any) -> Event:
    return {"time": time, "event": name, "node": node, **fields}


def exchange(time: float, number: int, message: str = "AppendEntries", source: int = 1, target: int = 2) -> list[Event]:
    """A message that takes 10 ms."""
    return [
        event(time, "send", source, to=target, id=number, message=message, term=1, detail=""),
        event(time + 0.01, "receive", target, id=number),
    ]


def groups(svg: str, *classes: str) -> list[ElementTree.Element]:
    """The groups of a figure that have all these classes, without those in the legend."""
    root = ElementTree.fromstring(svg)
    legend = {id(each) for key in root.iter(f"{SVG}g") if key.get("class") == "key" for each in key.iter()}
    return [
        group
        for group in root.iter(f"{SVG}g")
        if set(classes) <= set(group.get("class", "").split()) and id(group) not in legend
    ]


def told(group: ElementTree.Element) -> str:
    return str(group.findtext(f"{SVG}title"))


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def story(page: str) -> list[str]:
    """The sentences of a page's story."""
    return [
        re.sub(r"<[^>]*>", "", re.sub(r"<time>.*?</time> ", "", item))
        for item in re.findall(r"<li.*?</b>(.*?)</li>", page)
    ]


# -- messages ---------------------------------------------------------------------------------------------------------


def test_every_message_outside_of_cut_short_time_is_one_arrow(run: list[Event]) -> None:
    svg = figure(run)
    sent = {each["id"] for each in run if each["event"] == "send"}
    drawn = Counter(group.get("data-id") for group in groups(svg, "m"))
    hidden = sum(
        int(*re.findall(r"(\d+) heartbeats", told(group)))
        for group in {told(g): g for g in groups(svg, "break")}.values()
    )
    assert {int(number or 0) for number in drawn} <= sent
    assert len(drawn) + hidden == len(sent)


def test_a_message_says_what_it_is_where_it_goes_and_how_long_it_takes() -> None:
    events = [
        event(1.0, "send", 1, to=2, id=7, message="RequestVote", term=3, detail="last 4"),
        event(1.25, "receive", 2, id=7),
    ]
    (arrow,) = groups(figure(events), "m", "vote")
    assert told(arrow).splitlines() == [
        "RequestVote, term 3",
        "last 4",
        "node 1 → node 2",
        "sent at 1.000 s",
        "received at 1.250 s, 250 ms later",
    ]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("RequestVote", "vote"),
        ("RequestVoteReply", "vote"),
        ("AppendEntries", "append"),
        ("InstallSnapshot", "append"),
        ("AppendEntriesReply", "reply"),
        ("HeartbeatReply", "heartbeat"),
        ("ReadIndex", "other"),
    ],
)
def test_messages_are_coloured_by_kind(message: str, kind: str) -> None:
    assert len(groups(figure(exchange(1.0, 1, message)), "m", kind)) == 1


@pytest.mark.parametrize("reason", ["loss", "cut", "down", "queue"])
def test_a_lost_message_ends_in_a_cross_and_points_at_nobody(reason: str) -> None:
    events = [*exchange(1.0, 1)[:1], event(1.1, "drop", id=1, reason=reason), event(1.2, "restart", 2)]
    (arrow,) = groups(figure(events), "m", "lost")
    crosses = [path for path in arrow.iter(f"{SVG}path") if path.get("class") == "cross"]
    assert len(crosses) == 1
    assert not any(path.get("marker-end") for path in arrow.iter(f"{SVG}path"))
    assert told(arrow).endswith(f"lost at 1.100 s: {reason}")


def test_a_message_that_arrives_again_has_another_arrow_with_the_same_number() -> None:
    events = [*exchange(1.0, 1), event(1.5, "receive", 2, id=1)]
    first, again = groups(figure(events), "m", "append")
    assert first.get("data-id") == again.get("data-id") == "1"
    assert "again" in again.get("class", "")


def test_ends_of_messages_that_the_trace_does_not_know_are_drawn_all_the_same() -> None:
    events = [
        event(1.0, "receive", 2, id=5),
        *exchange(1.1, 6),
        event(1.2, "send", 2, to=1, id=7, message="X"),
        event(1.3, "drop", id=9),
    ]
    svg = figure(events)
    assert {group.get("data-id") for group in groups(svg, "m")} == {"5", "6", "7"}
    assert told(groups(svg, "m", "flies")[0]).endswith("under way at the end")


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_two_leaders_of_one_term_have_its_colour_at_once_and_the_red_line_names_them() -> None:
    svg = figure(traces.double_leader())
    leaders = {told(group).splitlines()[0]: group.get("class") for group in groups(svg, "leader")}
    assert leaders["node 1: leader, term 2"] == leaders["node 2: leader, term 2"] == "leader t2"
    assert leaders["node 2: leader, term 1"] == "leader t1"
    (broken,) = groups(svg, "broken")
    assert told(broken).startswith("two leaders in term 2: node 1 and node 2")
    assert len(list(broken.iter(f"{SVG}circle"))) == 2


def test_each_term_of_a_node_is_a_band_with_its_colour_and_name() -> None:
    roles = (("FOLLOWER", 3), ("CANDIDATE", 3), ("FOLLOWER", 4), ("FOLLOWER", 5))
    events = [event(float(number), "Role", 1, role=role, term=term) for number, (role, term) in enumerate(roles)]
    root = ElementTree.fromstring(figure([*events, event(5.0, "Role", 1, role="FOLLOWER", term=5)]))
    bands = [rect.get("class") for rect in root.iter(f"{SVG}rect") if (rect.get("class") or "").startswith("term")]
    names = [text.text for text in root.iter(f"{SVG}text") if (text.get("class") or "").startswith("term")]
    assert bands == ["term t3", "term t4", "term t5"]
    assert names == ["term 3", "term 4", "term 5"]


def test_a_state_of_the_machine_s_own_is_a_bar_that_says_its_name_and_term() -> None:
    events = [
        *(event(0.1 * number, "Prepare", 1, role="preparing", term=number) for number in (1, 2)),
        event(0.3, "Decide", 1, role="decided", term=2),
        event(0.5, "Promise", 1),
    ]
    assert {"preparing 1", "preparing 2", "decided 2"} <= set(texts(figure(events)))


def test_crashes_restarts_and_pauses_are_in_the_lane_of_their_node() -> None:
    svg = figure(traces.partition())
    assert {told(group).splitlines()[0] for group in groups(svg, "paused")} == {"node 3: paused"}
    svg = figure(traces.election())
    assert [told(group).splitlines()[0] for group in groups(svg, "cross")] == ["node 1: crash", "node 3: crash"]
    assert [told(group).splitlines()[0] for group in groups(svg, "start")] == ["node 1: restart"]
    assert {told(group).splitlines()[0] for group in groups(svg, "down")} == {
        "node 1: down, term 1",
        "node 3: down, term 1",
    }


def test_commits_are_ticks_with_their_index() -> None:
    events = [event(time, "Commit", 1, commit=index) for time, index in ((1.0, 3), (2.0, 4), (3.0, 4))]
    ticks = groups(figure(events), "commit")
    assert [tick.findtext(f"{SVG}text") for tick in ticks] == ["3", "4"]
    assert told(ticks[0]).startswith("node 1 learns that 1 to 3 is committed")


def test_events_of_unknown_kinds_are_small_marks_that_say_all_they_know() -> None:
    (mark,) = groups(figure([event(1.0, "Defragment", 2, blocks=7, why="it was time")]), "mark")
    assert told(mark).splitlines() == ["node 2: Defragment", "blocks 7", "why it was time", "1.0 s"]


@pytest.mark.parametrize(
    ("links", "text"),
    [
        ([(1, 2), (2, 1), (1, 3), (3, 1)], "partition 1 | 2, 3"),
        ([(1, 2)], "cut 1 → 2"),
        ([(1, 2), (2, 1)], "cut 1 ↔ 2"),
        ([(1, 2), (2, 1), (1, 3), (3, 1), (2, 3)], "cut 1 ↔ 2, 1 ↔ 3, 2 → 3"),
        ([(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b], "partition 1 | 2 | 3"),
    ],
)
def test_cut_links_have_a_short_name(links: list[tuple[int, int]], text: str) -> None:
    assert cut_text(frozenset(links), [1, 2, 3]) == text
    assert text in texts(
        figure([event(0.0, "restart", 3), event(1.0, "cut", links=links), event(9.0, "heal", links=links)])
    )


def test_many_cut_links_are_named_in_part() -> None:
    text = cut_text(frozenset((1, node) for node in range(2, 30)), list(range(1, 30)))
    assert text == "cut 1 → 2, 1 → 3, 1 → 4, 1 → 5, 1 → 6, 1 → 7, and 22 more"


# -- clients ----------------------------------------------------------------------------------------------------------


def test_operations_have_a_row_for_each_client_and_a_colour_for_the_outcome() -> None:
    outcomes = {
        "committed": "done",
        "readable": "done",
        "refused": "refused",
        "superseded": "refused",
        "lost": "unknown",
    }
    events = [event(1.0, "invoke", client=number, id=number, op="write", value="x") for number in range(6)]
    events += [
        event(2.0 + number, "return", client=number, id=number, outcome=outcome, value=number)
        for number, outcome in enumerate(outcomes)
    ]
    svg = figure(events)
    for number, fate in enumerate([*outcomes.values(), "open"]):
        assert any(told(group).startswith(f"client {number}: write x") for group in groups(svg, "op", fate))
    assert {f"client {number}" for number in range(6)} <= set(texts(svg))


def test_operations_that_one_client_has_under_way_at_once_do_not_hide_each_other() -> None:
    events = [event(1.0 + number, "invoke", client="a", id=number, op=f"write {number}") for number in range(3)]
    events += [event(8.0, "return", client="a", id=number, outcome="committed") for number in range(3)]
    heights = {group.find(f"{SVG}rect").get("y") for group in groups(figure(events), "op")}  # type: ignore[union-attr]
    assert len(heights) == 3


def test_more_operations_at_once_than_there_is_room_for_are_counted() -> None:
    events = [event(1.0, "invoke", client=number, id=1, op="read") for number in range(40)]
    assert "and 28 more operations" in texts(figure([*events, event(2.0, "restart", 1)]))


# -- words ------------------------------------------------------------------------------------------------------------


def test_the_story_of_two_leaders_is_told() -> None:
    page = draw(traces.double_leader(), title="An old disk")
    assert "<h1>An old disk</h1>" in page
    assert '<p class="verdict">Broken: two leaders in term 2: node 1 and node 2</p>' in page
    told_of = story(page)
    wanted = [
        "Node 2 becomes leader of term 1.",
        "The network breaks: partition 1, 3 | 2.",
        "Node 1 becomes leader of term 2. Node 3 voted for it. Node 2 does not know yet and still leads term 1.",
        "Node 2, the leader of term 1, steps down: it hears no majority.",
        "Node 3 crashes (power loss).",
        "Node 3 restarts (with an older disk).",
        "Node 2 campaigns in term 2, though that term has a leader.",
        "Node 2 also becomes leader of term 2, which node 1 already leads. "
        "Node 3 voted for it; node 3 voted for node 1 too.",
        "Broken: two leaders in term 2: node 1 and node 2",
    ]
    places = [next(place for place, text in enumerate(told_of) if text.startswith(sentence)) for sentence in wanted]
    assert places == sorted(places)
    assert places[-1] == len(told_of) - 1


def test_the_story_tells_of_split_votes_and_of_leaders_that_fall() -> None:
    assert "Node 4 campaigns in term 2: nobody won term 1, whose votes nodes 1 and 4 split." in story(
        draw(traces.split_vote())
    )
    assert "Node 3, the leader of term 1, crashes (kill)." in story(draw(traces.election()))


def test_moments_of_the_story_have_their_number_in_the_picture() -> None:
    page = draw(traces.split_vote())
    numbers = [group.findtext(f"{SVG}text") for group in groups(figure(traces.split_vote()), "badge")]
    assert sorted(map(int, filter(None, numbers))) == list(range(1, len(story(page)) + 1))


def test_campaigns_in_vain_are_one_moment() -> None:
    events = [event(float(term), "BecomeCandidate", 1, role="CANDIDATE", term=term) for term in range(1, 8)]
    assert story(draw(events)) == ["Node 1 campaigns in terms 1 to 7, in vain so far."]


# -- safe and bounded -------------------------------------------------------------------------------------------------

NASTY = "</title></svg><script>alert(1)</script>&\"'\x00\x1b\ud800\uffff"


def test_all_text_is_escaped() -> None:
    events = [
        event(0.0, "send", 1, to=2, id=1, message=NASTY[:50], term=1, detail=NASTY),
        event(0.1, "drop", id=1, reason=NASTY),
        event(0.2, NASTY[:50], 1, **{NASTY: NASTY}),
        event(0.3, "invoke", client=NASTY, id=1, op=NASTY),
        event(0.4, "return", client=NASTY, id=1, outcome=NASTY, value=NASTY),
        event(0.5, "BecomeLeader", 1, role=NASTY, term=1),
        event(0.6, "crash", 1, reason=NASTY),
        event(0.7, "clock", 1, jump=NASTY),
        event(0.8, "broken", text=NASTY),
    ]
    page, svg = draw(events, title=NASTY), figure(events, title=NASTY)
    assert page.count("<script") == 1
    assert "alert(1)" in page
    page.encode()
    ElementTree.fromstring(svg)


def test_a_page_needs_nothing_else() -> None:
    page = draw(traces.election())
    assert not re.search(r"\b(?:src|href|@import)\b", page)
    assert re.findall(r"https?://[^\"]*", page) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r"url\((?!#)", page) == []


def test_the_same_run_gives_the_same_picture() -> None:
    assert draw(traces.partition()) == draw(iter(traces.partition()))


def test_a_long_run_is_shown_up_to_its_failure() -> None:
    events = traces.long(20_000)
    page = draw(events)
    assert len(page) < 300_000
    assert f"{len(events):,} events" in page
    assert "Before that: " in page
    assert "node 3 applied another entry" in page
    shown = {int(number) for number in re.findall(r'data-id="(\d+)"', page)}
    last = [each["id"] for each in events if each["event"] == "send"][-1]
    assert last in shown
    assert min(shown) > last / 2


def test_a_part_of_a_run_can_be_chosen() -> None:
    events = [each for number in range(100) for each in exchange(number / 10, number)]
    svg = figure(events, around=5.0, seconds=0.5)
    numbers = {int(group.get("data-id", "")) for group in groups(svg, "m")}
    assert numbers == set(range(45, 56))


def test_without_a_length_a_chosen_part_is_as_long_as_is_readable() -> None:
    events = [each for number in range(4000) for each in exchange(number / 50, number)]
    svg = figure(events, around=40.0)
    numbers = {int(group.get("data-id", "")) for group in groups(svg, "m")}
    assert min(numbers) < 2000 < max(numbers)
    assert len(numbers) < 500


def test_what_was_so_before_the_picture_is_still_so_in_it() -> None:
    events = [
        event(0.0, "BecomeLeader", 1, role="LEADER", term=4),
        event(0.0, "crash", 2),
        event(0.0, "cut", links=[[1, 3]]),
        *(each for number in range(3000) for each in exchange(1.0 + number / 50, number)),
    ]
    svg, page = figure(events), draw(events)
    assert "When it begins, node 1 leads term 4." in page
    assert {told(group).splitlines()[0] for group in groups(svg, "leader")} == {"node 1: leader, term 4"}
    assert groups(svg, "down")
    assert "cut 1 → 3" in texts(svg)


def test_the_size_is_bounded_whatever_the_run() -> None:
    long = "x" * 10_000
    events = [
        part
        for number in range(15_000)
        for part in (
            event(number * 1e-3, "send", 1 + number % 9, to=1 + (number + 1) % 9, id=number, message=long, detail=long),
            event(number * 1e-3, "receive", 1 + (number + 1) % 9, id=number),
            event(number * 1e-3, "invoke", client=long + str(number), id=number, op=long),
            event(number * 1e-3, "odd", 1, text=long),
            event(number * 1e-3, "BecomeLeader", 1, role="LEADER" if number % 2 else "FOLLOWER", term=number),
        )
    ]
    assert len(draw(events, seconds=1e9)) < 5_000_000


def test_quiet_time_is_cut_short_and_the_axis_keeps_order() -> None:
    axis = Axis([(0.0, True), (0.01, True), *((time / 10, False) for time in range(1, 1000)), (100.0, True)], 0.01)
    (stretch,) = axis.breaks
    assert 0.01 < stretch[0] < stretch[1] < 100.0
    assert axis.place(stretch[1]) - axis.place(stretch[0]) == pytest.approx(BREAK)
    places = [axis.place(number / 7) for number in range(700)]
    assert places == sorted(places)
    assert axis.time(axis.place(0.004)) == pytest.approx(0.004)
    assert all(a != b for a, b in zip(axis.ticks(100.0), axis.ticks(100.0)[1:], strict=False))


def test_a_second_is_cut_short_as_a_second() -> None:
    events = [each for number in range(3) for each in exchange(number * 1.0374, number)]
    cut = re.findall(r"([\d.e+]+ m?s) cut short", figure(events))
    assert cut
    assert all("e" not in length for length in cut)


def test_a_run_longer_than_a_strip_goes_on_in_the_next() -> None:
    events = [each for number in range(100) for each in exchange(number / 50, number)]
    root = ElementTree.fromstring(figure(events))
    strips = [group for group in root.findall(f"{SVG}g") if group.get("class") == "strip"]
    assert len(strips) >= 3
    places = [
        float(number) for path in root.iter(f"{SVG}path") for number in re.findall(r"M(-?[\d.]+) ", path.get("d", ""))
    ]
    assert max(places) < 3 * STRIP


# -- what can't be drawn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", "an event is an object with fields, not text"),
        ({"time": 1.0, "node": 1}, '"event" must be a name of 1 to 60 characters, not None'),
        ({"time": 1.0, "event": "x" * 61}, '"event" must be a name'),
        ({"time": "soon", "event": "crash"}, '"time" must be a number of seconds, not soon'),
        ({"time": float("nan"), "event": "crash"}, '"time" must be a number of seconds, not nan'),
        ({"time": float("inf"), "event": "crash"}, '"time" must be a number of seconds, not inf'),
        ({"time": 10**5000, "event": "crash"}, '"time" must be a number of seconds, not '),
        ({"time": True, "event": "crash"}, '"time" must be a number of seconds, not True'),
        ({"time": 0.5, "event": "x"}, "events must be in order, but time goes back from 1.0 to 0.5"),
        (event(2.0, "crash", -1), '"node" of "crash" must be a number from 0 on, not -1'),
        (event(2.0, "crash"), '"crash" needs the "node" that it happens on'),
        (event(2.0, "Odd", role="LEADER"), '"Odd" needs the "node" that it happens on'),
        (event(2.0, "send", 1, id=5), '"to" of "send" must be a number from 0 on, not None'),
        (event(2.0, "send", 1, to=2, id="a"), '"id" of "send" must be a number from 0 on, not a'),
        (event(2.0, "send", 1, to=2, id=1), "message 1 was sent before"),
        (event(2.0, "receive", 1), '"id" of "receive" must be a number from 0 on, not None'),
        (event(2.0, "drop", id=2.5), '"id" of "drop" must be a number from 0 on, not 2.5'),
        (event(2.0, "cut", links=[[1, 2, 3]]), '"links" must be pairs of nodes like [[1, 2]], not [[1, 2, 3]]'),
        (event(2.0, "cut", links=7), '"links" must be pairs of nodes'),
        (event(2.0, "Commit", 1, commit="all"), '"commit" of "Commit" must be a number from 0 on, not all'),
        (event(2.0, "BecomeLeader", 1, role="LEADER", term=1 << 64), '"term" of "BecomeLeader" must be a number'),
    ],
)
def test_an_event_that_is_malformed_is_an_error_that_names_its_line(bad: Any, message: str) -> None:
    with pytest.raises(LocalError) as caught:
        draw([*exchange(0.99, 1), bad])
    assert str(caught.value).startswith(f"line 3 of the trace: {message}")


def test_a_picture_of_nothing_is_an_error() -> None:
    with pytest.raises(LocalError, match="the trace holds no events"):
        draw([])
    with pytest.raises(LocalError, match=r"nothing happens around 5 s: the trace goes from 1 s to 1.01 s"):
        draw(exchange(1.0, 1), around=5.0)
    with pytest.raises(LocalError, match="a picture shows more than 0 seconds"):
        draw(exchange(1.0, 1), seconds=0)


def test_more_nodes_than_there_is_room_for_are_an_error() -> None:
    events = [event(float(node), "restart", node) for node in range(1, NODES_MAX + 2)]
    assert figure(events[:NODES_MAX])
    with pytest.raises(LocalError, match=f"a picture has room for {NODES_MAX} nodes"):
        figure(events)


@pytest.mark.parametrize("time", [0.0, -3.5, 1e14])
def test_a_run_of_one_moment_is_drawn(time: float) -> None:
    assert "crash" in draw([event(time, "crash", 1)])
