"""The program around its commands: warnings and errors become one line for the user, and signals exit statuses."""

import errno
import sys
import warnings

from typer.exceptions import TyperException

from harness import garbage, interrupts, terminal
from harness.catalog import Catalog
from harness.cli import app
from harness.errors import UserError, require_utf8

CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR}

NUMBERS = {"int": "a whole number", "float": "a number"}
"""How types of errors begin that typer raises of values -> what was expected."""


def main(catalog: Catalog) -> None:
    """Run the program on these studies. What the user must know is told in one line; after an error the status is 2."""
    warnings.showwarning = lambda message, *_, **__: terminal.say(f"warning: {message}")
    terminal.outlive_readers()
    with interrupts.interruptible():
        status = _status(catalog)
        garbage.search_no_more()
        sys.exit(status)


def _status(catalog: Catalog) -> int:
    try:
        for argument in sys.argv:  # Ray, for one, takes the whole command line with it
            require_utf8("argument", argument)
        status = app(obj=catalog, standalone_mode=False, prog_name=terminal.program()) or 0
        return interrupts.status() if status == 130 else status  # which typer makes of any KeyboardInterrupt
    except KeyboardInterrupt:
        return interrupts.status()
    except TyperException as error:  # a command, an option or a value that typer does not know
        if wrong := _wrong(error):  # without any word at all, the help has been printed
            context = getattr(error, "ctx", None)
            command = context.command_path if context else terminal.program()
            terminal.say(f"error: {wrong}; `{command} --help` lists what is allowed")
    except UserError as error:
        terminal.say(f"error: {error}")
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        terminal.say(
            f"error: cannot write {error.filename or 'the output'}: {error.strerror}; finished trials are intact"
        )
    return 2


def _wrong(error: TyperException) -> str:
    """What typer refuses, in its words; for a value that is no number in ours, with the value."""
    values = getattr(error.__cause__, "errors", list)()
    kind = next((word for part, word in NUMBERS.items() if values and str(values[0].get("type")).startswith(part)), "")
    if not kind:
        return error.format_message().rstrip(".")
    option = getattr(getattr(error, "param", None), "opts", ["the value"])[0]
    return f"{option} {values[0]['input']} is not {kind}"
