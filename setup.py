"""Builds the Cython kernels in distkit/_fast; everything else is declared in pyproject.toml.

The environment variable DISTKIT_BUILD chooses how:

    release   optimised, without run-time checks (the default)
    debug     -O0 -g3, bounds and overflow checks, C asserts, an annotated .html beside each .pyx
    trace     debug, and line tracing for coverage of .pyx files
    asan      address and undefined-behaviour sanitizers; the first finding ends the process
    pure      no extensions: the Python twins in distkit/_fast/pure run instead

A kernel that does not compile fails the build. Only a machine without a C compiler gets the pure build unasked,
with a notice. After a change of DISTKIT_BUILD delete the old .c and .so files first (`make build` does).
"""

import os
import shlex
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

RELEASE = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "auto_pickle": False,
    "autotestdict": False,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
DEBUG = RELEASE | {"boundscheck": True, "initializedcheck": True, "overflowcheck": True}
DEBUG_FLAGS = ["-O0", "-g3", "-UNDEBUG"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# mode: (Cython directives, C macros, compiler flags, linker flags)
MODES = {
    "release": (RELEASE, [], ["-O3"], []),
    "debug": (DEBUG, [], DEBUG_FLAGS, []),
    "trace": (DEBUG | {"linetrace": True}, [("CYTHON_TRACE_NOGIL", "1")], DEBUG_FLAGS, []),
    "asan": (RELEASE, [], ["-O1", "-g3", *SANITIZE], SANITIZE),
}


def compiler_present() -> bool:
    if sys.platform == "win32":
        return True  # MSVC is never on PATH: setuptools finds it, or says what to install
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(command)[0]) is not None


def kernels(mode: str) -> list[Extension]:
    """One extension for each .pyx file; none in a pure build or where there is no compiler."""
    if mode not in (*MODES, "pure"):
        raise SystemExit(f"DISTKIT_BUILD={mode}: choose one of {', '.join(MODES)}, pure")
    sources = sorted(glob(os.path.join("distkit", "_fast", "*.pyx")))
    if mode == "pure":
        print("distkit: the slower pure Python kernels will run (DISTKIT_BUILD=pure)")
        return []
    if not sources:
        return []
    if not compiler_present():
        print("distkit: no C compiler found, so the slower pure Python kernels will run (as with DISTKIT_BUILD=pure)")
        return []
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        raise SystemExit(
            "distkit: Python.h is missing. Install it: apt-get install python3-dev (or set DISTKIT_BUILD=pure)"
        )

    from Cython.Build import cythonize
    from Cython.Compiler import Options

    Options.warning_errors = True
    directives, macros, compile_flags, link_flags = MODES[mode]
    if sys.platform == "win32":
        compile_flags, link_flags = [], []
    else:
        # Twins round after each operation, so no fused ones: some compilers use them by default (GCC on ARM).
        compile_flags = ["-Wall", "-Wextra", "-ffp-contract=off", *compile_flags]
    extensions = [
        Extension(
            source.removesuffix(".pyx").replace(os.sep, "."),
            [source],
            define_macros=macros,
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
        )
        for source in sources
    ]
    return cythonize(extensions, compiler_directives=directives, annotate=mode in ("debug", "trace"))


setup(ext_modules=kernels(os.environ.get("DISTKIT_BUILD") or "release"))
