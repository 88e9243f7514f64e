"""`completion`: what a shell needs to complete our commands."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "magalu-migrate", "_MAGALU_MIGRATE_COMPLETE"


@click.command(short_help="Print what makes your shell complete our commands.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the lines that make a shell complete commands, options and their values.

    \b
    Example: magalu-migrate completion bash > ~/.local/share/bash-completion/completions/magalu-migrate
             magalu-migrate completion fish > ~/.config/fish/completions/magalu-migrate.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"this version of click does not know {shell}")
    click.echo(made(ctx.find_root().command, {}, PROGRAM, VARIABLE).source(), nl=False)
