"""Every study that the program knows by name, and those that a user's own file declares."""

from dataclasses import replace
from pathlib import Path

from harness.errors import UserError, require_utf8, unknown_name
from harness.plugins import read_user_code
from harness.study import Study
from studies.aa import AA
from studies.architecture import ARCHITECTURE
from studies.combined import COMBINED
from studies.depth import DEPTH
from studies.modern import MODERN
from studies.noise import NOISE
from studies.reference import REFERENCE
from studies.stabilization import STABILIZATION

STUDIES: dict[str, Study] = {
    study.name: study for study in (ARCHITECTURE, DEPTH, STABILIZATION, NOISE, MODERN, COMBINED, REFERENCE, AA)
}


def find(name: str) -> Study:
    """The study of that name; for the path of a Python file, the one that the file declares as STUDY.

    Raises:
        UserError: no study of that name, or a file that fails, declares no study, or one whose name is taken.
    """
    if name.endswith(".py"):
        require_utf8("study file", Path(name).resolve())
        code = read_user_code(Path(name))
        study = getattr(code.load(), "STUDY", None)
        if not isinstance(study, Study):
            raise UserError(f"{name} declares no study; give it a STUDY = Study(...), of harness.study")
        if study.name in STUDIES:
            raise UserError(f"the study in {name} is called {study.name!r}, as one that is here already; rename it")
        return replace(study, own_code=code)
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES, "or the path of a Python file of your own")
    return STUDIES[name]
