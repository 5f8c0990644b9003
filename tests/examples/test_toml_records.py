"""TOML as records: what is right is read, and what is wrong is named by line and key."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from toml_records import read_records

from distkit import LocalError


@dataclass(frozen=True)
class Part:
    name: str
    weight: float | None = 1.0
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.weight is not None and self.weight < 0:
            raise LocalError("weight must not be negative")


@dataclass(frozen=True)
class Whole:
    title: str = ""
    busy: bool = False
    part: dict[str, Part] = field(default_factory=dict)
    list: tuple[Part, ...] = ()
    free: Any = None


def test_every_kind_of_field_is_read() -> None:
    text = """
title = "a"
busy = true
free = { x = 1 }
[part.one]
name = "first"
weight = 2
sizes = [1, 2]
[[list]]
name = "second"
"""
    found = read_records(Whole, text)
    assert found == Whole("a", True, {"one": Part("first", 2.0, (1, 2))}, (Part("second"),), {"x": 1})
    assert type(found.part["one"].weight) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel = 'a'", "line 1: titel: an unknown key; did you mean title?"),
        ("\n[part.one]\nname = 'a'\nqqq = 3", "line 4: part.one.qqq: an unknown key; there are name, weight, sizes"),
        ("[part.one]\nweight = 1", "line 1: part.one: name is missing"),
        ("[part.one]\nname = 3", "line 2: part.one.name: a text in quotes is needed, not 3"),
        ("busy = 1", "line 1: busy: true or false is needed, not 1"),
        ("[part.one]\nname = 'a'\nsizes = [1, true]", "line 3: part.one.sizes.1: a whole number is needed, not True"),
        ("[part.one]\nname = 'a'\nweight = inf", "line 3: part.one.weight: a finite number is needed"),
        ("[part.one]\nname = 'a'\nweight = -1", "line 1: part.one: weight must not be negative"),
        ("part = 3", "line 1: part: a table is needed, not 3"),
        ("list = 3", "line 1: list: a list is needed, not 3"),
        ("list = [{ name = 'a', wait = 1 }]", "line 1: list.0.wait: an unknown key; did you mean weight?"),
        ("[[list]]\nname = 'a'\n\n[[list]]\nname = 1", "line 5: list.1.name: a text in quotes is needed, not 1"),
        ("part.'a.b'.x = 1", "line 1: part.a.b.x: an unknown key; there are name, weight, sizes"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(text: str, message: str) -> None:
    with pytest.raises(LocalError) as caught:
        read_records(Whole, text)
    assert str(caught.value) == message


def test_what_is_no_toml_is_refused_with_the_place() -> None:
    with pytest.raises(LocalError, match=r"this is no TOML: .*line 2"):
        read_records(Whole, "title = 'a'\nbusy = \n")
