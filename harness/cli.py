"""The program and its commands, by what a person does. A further command is a function and an entry here."""

import inspect
from collections.abc import Callable

import typer

from harness import terminal
from harness.commands import keeping, questions, using

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Ask a question": {
        "list": questions.list_studies,
        "plan": questions.plan,
        "run": questions.run,
        "report": questions.report,
        "summary": questions.summary,
        "score": questions.score,
    },
    "Use results": {
        "status": using.status,
        "sample": using.sample,
        "export-model": using.export_model,
        "export": using.export,
        "site": using.site,
        "compare": keeping.compare,
    },
    "Look after data, machine and store": {
        "inspect": keeping.inspect,
        "doctor": keeping.doctor,
        "check": keeping.check,
        "prune": keeping.prune,
    },
}
"""Heading of the help -> command -> the function that typer makes it of."""

app = typer.Typer(
    add_completion=terminal.program() == terminal.CONSOLE_COMMAND,  # shells complete commands, not modules
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Declare a question about GANs as a table; get back an answer that would survive a reviewer.",
)


def _shown(function: Callable[..., None]) -> str:
    """A docstring for a terminal of any width: its paragraphs without their line ends, which typer would keep."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))


for heading, commands in COMMANDS.items():
    for name, function in commands.items():
        app.command(name, help=_shown(function), rich_help_panel=heading)(function)
