"""The files of plans, and the names that plans on a folder of pictures once had: its path as it had been typed."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.spec import FOLDER
from harness.storage.layout import SPEC, Layout, listed
from harness.storage.records import Damaged, read_checked


def read_plan_file(layout: Layout, path: Path) -> dict[str, Any]:
    """A plan by its path.

    Raises:
        Damaged: it is not what was written, or the plan of another study.
    """
    content = read_checked(path)
    study, profile = content.get("study"), content.get("profile")
    if not isinstance(study, str) or not isinstance(profile, str) or not isinstance(content.get("cells"), list):
        raise Damaged(path, "it holds something else")
    if path != layout.plan(study, profile):
        raise Damaged(path, f"it is the plan of {study} ({profile})")
    return content


def renamed(layout: Layout, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with the profile's name of today: with the absolute path of its folder, which its trials know."""
    plain, at, path = plan["profile"].partition(f"@{FOLDER}")
    if not at:
        return plan
    if os.path.isabs(path):
        return {**plan, "profile": plain + at + os.path.abspath(path)}
    for cell in plan["cells"]:
        with contextlib.suppress(OSError, UserError, ValueError, KeyError, TypeError):  # damage is for others to find
            dataset = json.loads((layout.trial(cell["trial_id"]) / SPEC).read_bytes())["dataset"]
            if dataset.startswith(FOLDER):
                return {**plan, "profile": f"{plain}@{dataset}"}
    return plan


def former_plans(layout: Layout, study: str, profile: str) -> Iterator[Path]:
    """Where plans of a study at a profile on a folder of pictures lie under former names."""
    for path in listed(layout.plans) if f"@{FOLDER}" in profile else ():
        with contextlib.suppress(FileNotFoundError, Damaged):  # damage is for others to find
            plan = renamed(layout, read_plan_file(layout, path))
            if path != layout.plan(study, profile) and (plan["study"], plan["profile"]) == (study, profile):
                yield path
