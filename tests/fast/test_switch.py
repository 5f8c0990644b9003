"""One switch for all kernels: DISTKIT_PURE=1 runs the twins, under every name, and loads nothing compiled."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from pkgutil import iter_modules

import pytest

import distkit
from distkit import _fast
from distkit._fast import pure

KERNELS = [module.name for module in iter_modules(pure.__path__)]

REPORT = """
import importlib, sys, distkit
for name in sys.argv[1:]:
    assert importlib.import_module("distkit._fast." + name) is importlib.import_module("distkit._fast.pure." + name)
print(distkit.COMPILED, [name for name, module in sys.modules.items()
    if name.startswith("distkit") and (getattr(module, "__file__", None) or "").endswith((".so", ".pyd"))])
"""


def test_the_environment_forces_pure() -> None:
    result = subprocess.run(
        [sys.executable, "-c", REPORT, *KERNELS],
        env=os.environ | {"DISTKIT_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == "False []\n"


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_have_one_module_whatever_the_way_to_it(name: str) -> None:
    kernel = getattr(_fast, name)
    assert import_module(f"distkit._fast.{name}") is kernel
    assert str(kernel.__file__).endswith(tuple(EXTENSION_SUFFIXES)) == distkit.COMPILED


def test_every_kernel_has_a_source_a_stub_and_a_twin() -> None:
    folder = Path(_fast.__file__).parent
    assert sorted(path.stem for path in folder.glob("*.pyi")) == KERNELS
    assert sorted(path.stem for path in folder.glob("*.pyx")) == KERNELS
