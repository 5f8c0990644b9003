"""Values of sticky cookies: what was written comes back, and nothing else is believed."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit.balance.stickiness import VALUE_MAX, Sticky, read_cookie, write_cookie
from distkit.core import LocalError

KEY, OTHER = b"k" * 32, b"o" * 32
ids = st.text(min_size=1, max_size=1024)


@given(ids, st.integers(0, 2**53 - 1), st.sampled_from([(), (KEY,), (OTHER, KEY)]))
def test_what_was_written_comes_back(id: str, expiry: int, keys: tuple[bytes, ...]) -> None:
    sticky = Sticky("web", keys)
    value = sticky.write(id, expiry)
    assert sticky.read(value, max(0, expiry - 1)) == id
    assert value.isascii()
    assert len(value) <= VALUE_MAX
    assert write_cookie("route", value).startswith(f"route={value}; ")


def test_the_layout() -> None:
    content = b"distkit sticky 1" + b"\3\0\0\0web" + (1700).to_bytes(8, "little") + b"10.0.0.1:80"
    mac = hmac.new(KEY, content, hashlib.sha256).digest()[:16]
    expected = ".".join(
        ("1", "1700", *(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in (b"10.0.0.1:80", mac)))
    )
    assert Sticky("web", [KEY]).write("10.0.0.1:80", 1700) == expected
    assert Sticky("web").write("a") == "1.0.YQ."


def test_values_of_others_are_nobodys() -> None:
    sticky, value = Sticky("web", [KEY]), Sticky("web", [KEY]).write("a")
    assert sticky.read(value) == "a"
    for other in (Sticky("web", [OTHER]), Sticky("api", [KEY]), Sticky("web")):
        assert other.read(value) is None
        assert sticky.read(other.write("a")) is None


def test_keys_can_be_replaced_without_losing_anybody() -> None:
    old, both, new = Sticky("web", [OTHER]), Sticky("web", [KEY, OTHER]), Sticky("web", [KEY])
    assert both.read(old.write("a")) == "a"
    assert new.read(both.write("a")) == "a"
    assert old.read(both.write("a")) is None


def test_a_value_ends_with_its_expiry_which_nobody_can_move() -> None:
    sticky = Sticky("web", [KEY])
    value = sticky.write("a", 1000)
    assert [sticky.read(value, now) for now in (999, 1000, 5000)] == ["a", None, None]
    assert sticky.read(value.replace(".1000.", ".9000."), 5000) is None
    assert sticky.read(sticky.write("a"), 2**52) == "a"


@given(st.integers(0, 200), st.characters(min_codepoint=32, max_codepoint=126))
def test_every_changed_letter_is_noticed(place: int, letter: str) -> None:
    sticky = Sticky("web", [KEY])
    value = sticky.write("10.0.0.1:8080", 1_700_000_000)
    place %= len(value)
    changed = value[:place] + letter + value[place + 1 :]
    assert sticky.read(changed) == ("10.0.0.1:8080" if changed == value else None)


@given(st.text(max_size=300), st.sampled_from([(), (KEY,)]))
def test_any_text_is_survived(value: str, keys: tuple[bytes, ...]) -> None:
    found = Sticky("web", keys).read(value)
    assert found is None or not keys


@pytest.mark.parametrize(
    "value",
    [
        "",
        "...",
        "1.0..",
        "1.0.YQ",
        "1.0.YQ==.",
        "1.0.YR.",  # the same byte, spelt otherwise
        "1.00.YQ.",
        "1.-1.YQ.",
        "1.\u0661.YQ.",
        "1.\u00b2.YQ.",  # a digit to Python, but no number
        "2.0.YQ.",
        "1.0.Y Q.",
        "1.0.YQ.YQ",
        "1.99999999999999999.YQ.",
        "1.0._w.",  # no UTF-8
        "1.0." + "A" * 9000 + ".",
        None,
        b"1.0.YQ.",
    ],
)
def test_no_other_spelling_is_read(value: str) -> None:
    assert Sticky("web").read(value) is None


def test_bad_input_of_the_own_program_is_refused() -> None:
    for key in (b"short", b"", "text" * 10):
        with pytest.raises(LocalError, match="at least 16 bytes"):
            Sticky("web", [key])  # type: ignore[list-item]
    for id in ("", "x" * 1025, 5):
        with pytest.raises(LocalError, match="an id is text"):
            Sticky("web").write(id)  # type: ignore[arg-type]
    for expiry in (-1, 1.5, 2**53):
        with pytest.raises(LocalError, match="expiry"):
            Sticky("web").write("a", expiry)  # type: ignore[arg-type]


def test_cookies_are_found_by_their_whole_name() -> None:
    assert read_cookie("a=1; route=x.y; b=2", "route") == "x.y"
    assert read_cookie('route="x"', "route") == "x"
    assert read_cookie("route=first; route=second", "route") == "first"
    for header in ("", "routes=x", "xroute=x", "route", "Route=x", ";;=;"):
        assert read_cookie(header, "route") is None


def test_cookies_cannot_be_broken_out_of() -> None:
    assert write_cookie("r", "v", max_age=60, secure=True) == "r=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
    for name, value, path in (
        ("", "v", "/"),
        ("a b", "v", "/"),
        ("a", "v; Path=/x", "/"),
        ("a", "v\r\nX: y", "/"),
        ("a", "v", "/;x"),
        ("a", "\u00fc", "/"),
    ):
        with pytest.raises(LocalError, match="cookie"):
            write_cookie(name, value, path)
