"""What a site has of each study at each profile: its evidence and its page, or why there is none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.wording import agreeing, count, number
from harness.errors import UserError
from harness.reporting.blocks import Block, Page, Section
from harness.reporting.study_page import study_page
from harness.site.merge import Merged, View, address
from harness.study import Study
from harness.tuning import search_name
from harness.using.trial import Place, command


@dataclass(frozen=True, kw_only=True)
class Told:
    """One study at one profile."""

    study: str
    profile: str
    view: View
    plan: Mapping[str, Any]
    label: str  # as lists name it
    page: str  # the address of its page from the site's root; "" where it has none
    evidence: Evidence | None = None
    why_none: str = ""

    @property
    def held_by(self) -> Sequence[str]:
        """The stores that its plan is from."""
        return self.view.held_by[self.study, self.profile]

    @property
    def is_search(self) -> bool:
        """Whether it is what a tuned study's arms were searched by: it asks nothing, and that study's page shows it."""
        return any(search_name(name) == self.study for name, _ in self.view.held_by)


def studies_of(merged: Merged, known: Mapping[str, Study]) -> list[Told]:
    """Every study at every profile that ran, in the order of the known studies.

    Args:
        merged: The stores.
        known: The studies that can be judged, by name: a store holds no declarations.
    """
    order = list(known)
    found = []
    for number_of_view, view in enumerate(merged.views):
        for study, profile in view.held_by:
            plan = view.store.read_plan(study, profile) or {}
            name = view.store.layout.report_folder(study, profile).name
            page = f"studies/{name}{f'-{number_of_view + 1}' if number_of_view else ''}.html"
            several = sum((study, profile) in other.held_by for other in merged.views) > 1
            of = f", of {', '.join(view.held_by[study, profile])}" if several else ""
            told = Told(study=study, profile=profile, view=view, plan=plan, label=f"{study} ({profile}){of}", page=page)
            found.append(_judged(told, known))
    found.sort(key=lambda told: (order.index(told.study) if told.study in order else len(order), told.label))
    return [replace(told, page=_tuned(told, found).page) if told.is_search else told for told in found]


def _tuned(search: Told, found: Sequence[Told]) -> Told:
    """The study whose arms a search was for."""
    return next(t for t in found if t.view is search.view and search_name(t.study) == search.study)


def _judged(told: Told, known: Mapping[str, Study]) -> Told:
    """With its evidence, or why there is none."""
    study, file = known.get(told.study), str(told.plan.get("file", ""))
    if told.is_search:
        return replace(told, page="")
    try:
        if study is None or bool(file) != bool(study.own_code):
            name = Path(file).name
            raise UserError(
                f"it is declared in {name}; `--code {name}` makes its page, with that file at hand"
                if file
                else "no study of this name is known to this version of the code"
            )
        return replace(told, evidence=load_evidence(told.view.store, study, told.profile))
    except UserError as error:
        return replace(told, page="", why_none=str(error))


def page_of(told: Told, evidence: Evidence, merged: Merged, processes: int) -> Page:
    """The study's page as reports have it, with links to its trials, what was merged, and a command without paths."""
    page = study_page(evidence, processes=processes)
    own = Place(told.study, told.profile, "", 0, "", str(told.plan.get("file", "")))
    again = command(own, evidence.num_seeds)
    first, *middle, last = page.sections
    of_stores = list(_merged_words(told, merged))
    return replace(
        page,
        sections=[
            Section(first.name, first.title, [*of_stores, *first.blocks]),
            *middle,
            Section("trials", "Every trial", _trials(evidence)),
            Section(last.name, last.title, [_with_command(block, again) for block in last.blocks]),
        ],
    )


def _with_command(block: Block, again: str) -> Block:
    if isinstance(block, pd.DataFrame) and "" in block:
        block = block.assign(**{" ": block[" "].where(block[""] != "command", f"`{again}`")})
    return block


def _merged_words(told: Told, merged: Merged) -> Iterator[str]:
    """What a reader must know of the stores behind a page."""
    if len(told.held_by) > 1:
        yield f"*Merged from the stores {', '.join(told.held_by)}.*"
    ids = dict.fromkeys(cell["trial_id"] for cell in told.plan["cells"])
    if differ := [trial_id for trial_id in ids if trial_id in merged.others]:
        have, it = agreeing(len(differ), "has", "have"), agreeing(len(differ), "It is", "They are")
        links = ", ".join(f"[{trial_id}](../{address(trial_id)})" for trial_id in differ[:MOST_NAMED])
        more = f" and {len(differ) - MOST_NAMED} more" * (len(differ) > MOST_NAMED)
        yield (
            f"> {count(len(differ), 'trial')} of this study {have} another result in another store. What is shown and "
            f"judged is, of each, the result that was begun first. {it}: {links}{more}."
        )


MOST_NAMED = 6
"""Trials that a sentence links to, at most."""


def _trials(evidence: Evidence) -> list[Block]:
    """Every trial of the study, arm by arm, by its FID under the study's protocol."""
    rows = evidence.rows.sort_values("seed")
    lines = []
    for arm in evidence.arms:
        mine = rows[rows.arm == arm]
        told = [
            f"[seed {seed}](../{address(trial_id)}) {number(fid) if status == 'ok' else status}"
            for seed, trial_id, fid, status in zip(mine.seed, mine.trial_id, mine.fid, mine.status, strict=True)
        ]
        lines.append(f"- **{arm}**: {' · '.join(told) or 'no trial yet'}")
    return ["Each links to its trial's page, and is followed by the trial's FID.", "\n".join(lines)]
