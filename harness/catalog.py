"""The studies that a program knows by name, and those that a user's own file declares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UserError, require_utf8, unknown_name
from harness.plugins import read_user_code
from harness.study import Study
from harness.tuning import SEARCH


@dataclass(frozen=True)
class Catalog:
    """Studies by name, and the claims that they test."""

    studies: Mapping[str, Study]
    claims: Mapping[str, Sequence[str]]
    """Each in words -> what tests it: "study/question", or "study/question/level" of a contrast."""

    def find(self, name: str) -> Study:
        """The study of that name; for the path of a Python file, the one that the file declares as STUDY.

        Raises:
            UserError: no study of that name, or a file that fails, declares no study, or one whose name is taken.
        """
        if not name.endswith(".py"):
            if name not in self.studies:
                raise unknown_name("study", name, self.studies, "or the path of a Python file of your own")
            return self.studies[name]
        require_utf8("study file", Path(name).resolve())
        code = read_user_code(Path(name))
        study = getattr(code.load(), "STUDY", None)
        if not isinstance(study, Study):
            raise UserError(f"{name} declares no study; give it a STUDY = Study(...), of harness.study")
        if study.name in self.studies:
            raise UserError(f"the study in {name} is called {study.name!r}, as one that is here already; rename it")
        if study.name.endswith(SEARCH):  # both would keep their plans in one place of a store
            raise UserError(
                f"the study in {name} is called {study.name!r}, as the search of a tuned study "
                f"{study.name.removesuffix(SEARCH)!r} would be; rename it"
            )
        return replace(study, own_code=code)
