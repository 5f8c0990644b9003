"""The front door of the package: its names exist, and it opens without trio."""

import subprocess
import sys

import pytest

import distkit

WITHOUT_TRIO = (
    "import sys; sys.modules['trio'] = None; import distkit; [getattr(distkit, name) for name in sys.argv[1:]]"
)


def test_what_needs_no_trio_is_there_without_trio() -> None:
    names = [name for name in distkit.__all__ if name not in ("blocking", "open_replica")]
    subprocess.run([sys.executable, "-c", WITHOUT_TRIO, *names], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'distkit' has no attribute 'open_replicas'"):
        _ = distkit.open_replicas
