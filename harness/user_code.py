"""A user's own Python file: what it adds to the registries, and how it reaches the workers.

The file may put entries into ARCHITECTURES, LOSSES, AUGMENTATIONS or DATASETS, and declares STUDY. Its content is
hashed into the identity of every trial that uses an architecture, a loss or an augmentation of its own; of a data set
of its own the pixels are. What it imports from other files of the user's is not hashed and does not travel to workers:
networks, losses and augmentations belong into the file itself. The first three keep what is shipped: an entry under
such a name is refused.
"""

import hashlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from harness.errors import UserError


@dataclass(frozen=True)
class UserCode:
    """The source of a user's file. Small and picklable, so that workers on other machines can load it too."""

    file: str  # where it was read, for messages and tracebacks
    source: str

    @property
    def digest(self) -> str:
        """16 hex digits of the source's SHA-256."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    def load(self) -> ModuleType:
        """Run the file once in this process; the same content is not run again.

        Raises:
            UserError: the file fails.
        """
        return _load(self)


def read_user_code(path: Path) -> UserCode:
    """The file's source.

    Raises:
        UserError: there is no such file, or it cannot be read as text.
    """
    try:
        return UserCode(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}; give a Python file that declares STUDY") from None


@cache
def _load(code: UserCode) -> ModuleType:
    module = ModuleType(f"user_{code.digest}")
    module.__file__ = code.file
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    try:
        exec(compile(code.source, code.file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's file raises is theirs to know
        del sys.modules[module.__name__]
        raise UserError(f"{code.file} failed: {type(error).__name__}: {error}") from error
    return module
