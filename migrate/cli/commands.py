"""The program's commands as a group, which tells words that cannot be meant as the user wants to be told: in words, or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from typing import IO, Any, cast

import click

from migrate.cli.terminal import print_json

WORDS = "magalu-migrate.words"


class Commands(click.Group):
    """A group whose commands are loaded when they are asked for: a program that starts need not know what the others do."""

    def __init__(self, *words: Any, where: Mapping[str, str], **more: Any) -> None:
        super().__init__(*words, **more)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._where:
            return None
        module, name = self._where[cmd_name].split(":")
        return cast(click.Command, getattr(import_module(f"migrate.cli.{module}"), name))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = ctx.meta[WORDS] = tuple(args)
        with _told(words):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _told(ctx.meta[WORDS]):
            return super().invoke(ctx)


def wants_json(words: Sequence[str]) -> bool:
    """Whether the words ask for JSON, however wrong the rest of them may be."""
    return "--output=json" in words or ("--output", "json") in pairwise(words)


@contextmanager
def _told(words: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not wants_json(words):
            raise
        raise _AsJson(error) from error


class _AsJson(click.ClickException):
    """Wrong usage as one object on standard output, as every other failure is told."""

    exit_code = 2

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message())
        self._hint = f"`{error.ctx.command_path} --help` shows what it takes." if error.ctx else None

    def show(self, file: IO[Any] | None = None) -> None:
        print_json({"status": "failed", "error": self.message, "hint": self._hint})
