"""The files of plans, and the names that plans on a folder of pictures once had: as typed, or where it lay before."""

import contextlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.questions import located
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
        return {**plan, "profile": located(plan["profile"])}
    for spec in _specs(layout, plan):
        return {**plan, "profile": located(f"{plain}@{spec['dataset']}")}
    return plan


def profile_of_same_pictures(layout: Layout, study: str, profile: str, fingerprints: Collection[str]) -> str:
    """At which profile the study was planned on the same pictures in another folder, if it was not in this one.

    Args:
        layout: Of the store.
        study: Its name.
        profile: Its profile on a folder of pictures, by its name of today.
        fingerprints: Of the pictures there.

    Returns:
        The name of that profile; "" where there is none.
    """
    plain, at, _ = profile.partition(f"@{FOLDER}")
    if not at or layout.plan(study, profile).exists():
        return ""
    for path in listed(layout.plans):
        with contextlib.suppress(FileNotFoundError, Damaged):  # damage is for others to find
            plan = renamed(layout, read_plan_file(layout, path))
            there = plan["study"] == study and plan["profile"].startswith(plain + at)
            if there and any(spec.get("data_fingerprint") in fingerprints for spec in _specs(layout, plan)):
                return plan["profile"]
    return ""


def remove_plan(layout: Layout, study: str, profile: str) -> None:
    """Take a plan away, under whatever name it lies there."""
    for path in (layout.plan(study, profile), *former_plans(layout, study, profile)):
        path.unlink(missing_ok=True)


def _specs(layout: Layout, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The specs of a plan's trials on folders of pictures, as far as these trials are there."""
    for cell in plan["cells"]:
        with contextlib.suppress(OSError, UserError, ValueError, KeyError, TypeError):  # damage is for others to find
            spec = json.loads((layout.trial(cell["trial_id"]) / SPEC).read_bytes())
            if spec["dataset"].startswith(FOLDER):
                yield spec


def former_plans(layout: Layout, study: str, profile: str) -> Iterator[Path]:
    """Where plans of a study at a profile on a folder of pictures lie under former names."""
    for path in listed(layout.plans) if f"@{FOLDER}" in profile else ():
        with contextlib.suppress(FileNotFoundError, Damaged):  # damage is for others to find
            plan = renamed(layout, read_plan_file(layout, path))
            if path != layout.plan(study, profile) and (plan["study"], plan["profile"]) == (study, profile):
                yield path
