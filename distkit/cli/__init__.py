"""The command line: `python -m distkit VERB`. Each verb is a module here that holds its `command`.

Exit status of every verb: 0 all is well, 1 something was found that is not, 2 the command could not do its work.
"""

from __future__ import annotations

import errno
from importlib import import_module
from typing import Any, Final

import click

#: The verbs, as they are listed.
VERBS: Final = ("balance", "check", "explore", "info", "mutants", "replay", "shrink", "sim", "wal")


class _CannotGoOn(click.ClickException):
    """The operating system refused something, such as a write to a full disk."""

    exit_code = 2


class _Verbs(click.Group):
    """Imports the module of a verb when it is needed, so that no verb pays for what another one imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has seen enough; click ends quietly then
                raise
            raise _CannotGoOn(str(error)) from error


commands = _Verbs(help="Tools for operators and developers of distkit.")
