"""EDN as far as histories use it: what comes out, and what is said of everything else."""

from itertools import chain, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.sim.linear.edn import DEPTH_MAX, RECORD_CHARS_MAX, HistoryError, Plain, read_forms, read_records


def records(text: str) -> list[tuple[int, dict[Plain, Plain]]]:
    return list(read_records(enumerate(text.splitlines(), 1)))


def value(text: str) -> Plain:
    ((_, found),) = records(f"{{:value {text}}}")
    return found["value"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("-17", -17),
        ("+4N", 4),
        ("1.5", 1.5),
        ("-2e3M", -2000.0),
        (":timed-out", "timed-out"),
        (":jepsen.util/x", "jepsen.util/x"),
        ("a/symbol", "a/symbol"),
        (r'"a \"b\" \\ \n \u00e9 \ud83d\ude00"', 'a "b" \\ \n é 😀'),
        (r"[\a \newline \u0042 \]]", ("a", "\n", "B", "]")),
        ("[1 (2, 3) []]", (1, (2, 3), ())),
        ("#{3 1 2}", (1, 2, 3)),
        ("{:b 1, :a [2]}", (("a", (2,)), ("b", 1))),
        ('#inst "2020-01-01"', "2020-01-01"),
        ("#knossos.model.Register{:value #_ 7 8}", (("value", 8),)),
        ("[1 #_ #_ 2 3 4] ; [5", (1, 4)),
    ],
)
def test_values(text: str, plain: Plain) -> None:
    if ";" in text:
        text += "\n"
    assert value(text) == plain


def test_equal_sets_and_maps_are_equal_whatever_their_order() -> None:
    assert value("#{{:a 1 :b 2} 3}") == value("#{3 {:b 2, :a 1}}")


@pytest.mark.parametrize(
    "text",
    [
        "{:f 1}\n{:f 2}\n\n{:f 3}",
        "#_ [1] #_ #_ 2 3{:f 1}\n{:f 2} #_ 3\n\n{:f 3}",
        "[{:f 1}\n{:f 2}\n\n{:f 3}]",
        "(#op{:f 1}\n #op {:f 2} ; {\n #_{:f 7}\n{:f\n3})",
    ],
)
def test_records_one_by_one_or_all_in_one_collection_with_their_lines(text: str) -> None:
    assert records(text) == [(1, {"f": 1}), (2, {"f": 2}), (4, {"f": 3})]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{:f 1}\n{:f [2", 2, "what '{' begins here has no end: the history was cut short"),
        ("[{:f 1}\n{:f 2}", 1, "what '[' begins here has no end: the history was cut short"),
        ("{:f 1}\n#op", 2, "what '#op' begins here has no end: the history was cut short"),
        ('{:f 1}\n{:f "wri', 2, "column 5: the text that begins here has no end on this line: the history was cut"),
        ("{:f}", 1, "a map has a key without a value"),
        ("{:f 1 :f 1}", 1, "a map has one key twice"),
        ("\n{:f (1]}", 2, "']' cannot close what '(' of line 2 began"),
        ("{:f 1}}", 1, "'}' closes nothing"),
        ("[{:f 1})", 1, "')' closes nothing"),
        ("[{:f 1}]\n{:f 2}", 2, "there is more behind the end of the history"),
        ("{:f [#_]}", 1, "'#_' has nothing behind it"),
        ("{:f 1}\n[{:f 2}]", 2, "expected a map such as {:process 0, ...}, found ((('f', 2),),)"),
        ("{:f ##NaN}", 1, "column 5: '#' has no meaning here"),
        ("{:f @x}", 1, "column 5: '@' has no meaning here"),
        (r'{:f "\q"}', 1, r"the text '\\q' has an escape \q that EDN does not know"),
        (r'{:f "\ud800"}', 1, "has half of a character in it"),
        (r"{:f \ud800}", 1, "has half of a character in it"),
        (r"{:f \foo}", 1, r"the character \foo has no meaning in EDN"),
        ("{:f " + "9" * 200 + "}", 1, "a number of more than 100 digits"),
        ("{:f " + "[" * DEPTH_MAX, 1, "nested more than 32 deep"),
        ("#a " * (DEPTH_MAX + 1), 1, "nested more than 32 deep"),
        ("{:f [" + "1 " * RECORD_CHARS_MAX + "]}", 1, "one record is longer than 1048576 characters"),
    ],
)
def test_what_is_no_history_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(HistoryError) as caught:
        records(text)
    assert message in str(caught.value)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")


def test_one_collection_of_any_length_is_read_record_by_record() -> None:
    endless = chain(["["], (f"{{:f {number}}}" for number in count()))
    found = read_records(enumerate(endless, 1))
    assert [next(found), next(found)] == [(2, {"f": 0}), (3, {"f": 1})]


def test_forms_are_read_no_further_than_asked_for() -> None:
    forms = read_forms(1, ':write [3 "x"] java.io.IOException: broken "pipe')
    assert [next(forms), next(forms)] == ["write", (3, "x")]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=20,
)


def edn(plain: Plain) -> str:
    match plain:
        case None:
            return "nil"
        case bool():
            return str(plain).lower()
        case int():
            return str(plain)
        case str():
            escaped = plain.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
            return f'"{escaped}"'
        case tuple():
            return f"[{' '.join(map(edn, plain))}]"
    raise AssertionError(plain)


@given(PLAIN)
def test_what_is_written_is_read(plain: Plain) -> None:
    assert list(read_forms(1, edn(plain))) == [plain]


@given(st.text(alphabet='{}[]()#_:a1.-+\\"; ,\nuNM', max_size=60))
def test_any_text_gives_records_or_an_error_with_a_line(text: str) -> None:
    try:
        found = records(text)
    except HistoryError as error:
        line = error.line
    else:
        assert all(isinstance(fields, dict) for _, fields in found)
        line = 1
    assert 1 <= line <= max(1, len(text.splitlines()))
