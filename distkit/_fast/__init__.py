"""The kernels: byte and integer work that is done once per entry, in Cython, each with a readable twin in Python.

    from distkit._fast import codec, logbuf, quorum

gives the compiled modules, or the twins of `distkit._fast.pure` under the same names. One switch serves all
kernels, so that a program never runs on a mixture: the twins run when DISTKIT_PURE=1 is set in the environment or
when any compiled module is missing. `COMPILED` says which it is; both give the same results, byte for byte.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Final

from distkit._fast import pure

__all__ = ["COMPILED"]

# Every kernel has a twin, so the twins are the list of kernels.
_kernels = [module.name for module in iter_modules(pure.__path__)]

COMPILED: Final[bool] = os.environ.get("DISTKIT_PURE") != "1" and all(
    find_spec(f"{__name__}.{name}") for name in _kernels
)

for _name in _kernels:
    if not COMPILED:
        # Under the kernel's own name, so that `import distkit._fast.codec` cannot reach past the switch.
        sys.modules[f"{__name__}.{_name}"] = import_module(f"{pure.__name__}.{_name}")
    globals()[_name] = import_module(f"{__name__}.{_name}")
