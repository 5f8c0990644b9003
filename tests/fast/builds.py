"""Both builds of a kernel, for one set of tests over each; and what a call did, so that they can be compared."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

import distkit
from distkit.core import DistkitError


def builds(name: str) -> list[Any]:
    """The twin and the compiled module of a kernel, as parameters for a fixture.

    Without compiled modules the second one is skipped; under CI that is an error, unless pure was asked for.
    """
    twin = pytest.param(import_module(f"distkit._fast.pure.{name}"), id="pure")
    if distkit.COMPILED:
        return [twin, pytest.param(import_module(f"distkit._fast.{name}"), id="compiled")]
    if os.environ.get("CI") and os.environ.get("DISTKIT_PURE") != "1":
        raise RuntimeError("the kernels are not compiled, so they can't be tested: run `make build` (it needs gcc)")
    return [twin, pytest.param(None, id="compiled", marks=pytest.mark.skip(reason="the kernels are not compiled"))]


def outcome(call: Callable[..., Any], *arguments: object) -> tuple[type, object]:
    """What a call returned or raised, in a form that compares equal for equal behaviour."""
    try:
        value = call(*arguments)
    except TypeError:
        return TypeError, ""  # the words are Python's or Cython's own
    except DistkitError as error:
        return type(error), str(error)
    return type(value), value
