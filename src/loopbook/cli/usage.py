"""Usage: how a command and its arguments are written in `--help`, and what Ctrl-C says.

It decides that an argument stands there as the README types it: `VERSION`, `[TASK]`,
`ID...`. Typer would write `{VERSION}` and name a Python type beside it. And that
Ctrl-C ends no command without a word: what it leaves is said by whoever knows it
(`waits.leaving`), and of the other commands a sentence that is true of all.
"""

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from loopbook.project import waits


class Command(TyperCommand):
    """A command whose arguments are named in one way, in the usage and in their list."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = [self.options_metavar] if self.options_metavar else []
        return pieces + [_typed(argument) for argument in self._arguments(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments = self._arguments(ctx)
        told = [(_typed(one).strip("[]"), one.help or "") for one in arguments if not one.hidden]
        if told:
            with formatter.section("Arguments"):
                formatter.write_dl(told)
        records = [p.get_help_record(ctx) for p in self.get_params(ctx) if p not in arguments]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record])

    def _arguments(self, ctx: Any) -> list[TyperArgument]:
        return [p for p in self.get_params(ctx) if isinstance(p, TyperArgument)]


def _typed(argument: TyperArgument) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


class Group(TyperGroup):
    """Commands of which each that Ctrl-C ends says so, with exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except waits.Interrupted:
            pass
        except KeyboardInterrupt:
            waits.tell_interrupted()
        raise typer.Exit(waits.INTERRUPTED)


class App(typer.Typer):
    """An application, or a group of commands, that is told so."""

    def __init__(self, *, cls: type = Group, **options: Any) -> None:
        super().__init__(cls=cls, **options)

    def command(self, name: str | None = None, *, cls: type = Command, **options: Any) -> Any:
        return super().command(name, cls=cls, **options)
