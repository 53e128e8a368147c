"""Build the documentation with Sphinx into build/docs; every warning is an error.

The pages lie where a git host shows them: README.md, docs/, deploy/, reports/published/. Sphinx wants them in one
folder of its own, so they are copied first; the README becomes its first page.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "deploy", "reports/published")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def stage(folder: Path) -> None:
    """Copy all that the pages are made from."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.py", "*.pyc", "__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "README.md", folder / "index.md")


def build(out: Path) -> int:
    """Sphinx's exit status."""
    with tempfile.TemporaryDirectory() as place:
        stage(Path(place))
        words = ["-W", "--keep-going", "-q", "-j", "auto", "-b", "html", "-d", f"{place}/.doctrees"]
        return sphinx([*words, "-c", str(ROOT / "docs"), place, str(out)])


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
