"""Errors on the command line."""

from typing import Any

import click

NO_FILE = ": no such file or directory; name a readable file"
INIT = "`gateway init`"


class InvalidConfig(click.ClickException):
    """A configuration is invalid; each problem is printed on its own line. Exit status 2."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def show(self, file: Any = None) -> None:
        """Print the problems on standard error."""
        del file
        count = len(self.problems)
        title = "1 problem" if count == 1 else f"{count} problems"
        click.secho(f"{title} in the configuration:", err=True, bold=True)
        for problem in self.problems:
            where, colon, what = problem.partition(": ")
            click.echo(click.style(f"  {where}{colon}", fg="red") + what, err=True)
        if count == 1 and NO_FILE in self.problems[0]:
            click.echo(f"Name another file with -c, or write one with {INIT}.", err=True)


class InvalidName(click.ClickException):
    """An option or an argument names something that does not exist. Exit status 2."""

    exit_code = 2
