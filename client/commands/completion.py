"""``completion``: the script that teaches a shell our commands, models and jobs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "modelrunner"
VARIABLE = "_MODELRUNNER_COMPLETE"  # as click derives it from the program's name
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, models and jobs in a shell.

    \b
    bash:  modelrunner completion bash > ~/.local/share/bash-completion/completions/modelrunner
    zsh:   modelrunner completion zsh > a file _modelrunner in a folder of $fpath
    fish:  modelrunner completion fish > ~/.config/fish/completions/modelrunner.fish

    Models and jobs are asked of the server that MODELRUNNER_SERVER, or --server before
    them on the line, names; where it does not answer within a second, there are none.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(click.Command(PROGRAM), {}, PROGRAM, VARIABLE).source(), nl=False)
