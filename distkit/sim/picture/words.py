"""Text that is safe in a page, and short enough for its place."""

from __future__ import annotations

from html import escape
from typing import Final

#: Estimated width of a character of the usual text.
LETTER: Final = 5.8


def clean(text: str) -> str:
    """Text that is safe in HTML and in XML, whatever it holds."""
    kept = "".join(letter if letter >= " " or letter == "\n" else "\ufffd" for letter in text)
    return escape(kept.encode("utf-8", "replace").decode().replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))


def clip(text: str, room: float) -> str:
    """As much of the text as there is room for, if that is worth showing."""
    letters = int(room / LETTER)
    if len(text) <= letters:
        return text
    return text[: letters - 1] + "…" if letters >= 4 else ""
