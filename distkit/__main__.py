"""`python -m distkit VERB`. The verbs are in `distkit.cli`; they need the extra `distkit[cli]`."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, or say what is not installed."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        print(f"python -m distkit needs {' and '.join(missing)}: pip install '.[cli]' in the checkout", file=sys.stderr)
        sys.exit(2)
    from distkit.cli import commands

    commands(prog_name="python -m distkit")


if __name__ == "__main__":
    main()
