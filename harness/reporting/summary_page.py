"""The summary: every claim of the founding document, and every study's own, on one page."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from harness.analysis.answers import settle
from harness.analysis.budget import NOT_TESTABLE
from harness.analysis.effects import level_arms
from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.statistics import MOST_SEEDS
from harness.analysis.verdicts import Answer, claims_of
from harness.errors import UserError, unknown_name
from harness.questions import Question
from harness.reporting import figures, provenance, tables
from harness.reporting.blocks import Block, Fold, Page, Picture, Section, Written
from harness.reporting.study_page import (
    HOW_TO_READ,
    by_metrics,
    error_rate,
    link,
    notes,
    scope,
    tally,
    verdicts,
    warnings,
)
from harness.storage.store import Store
from harness.study import Study

STUDY_ALONE = (
    "*The column 'in its study' has the verdict that holds where that study's claims alone share the 5%, as on its own "
    "page and below.*"
)

Named = tuple[str, str, str]
"""A claim of a study: the study, its question, and the level; "" where it is about all levels."""

Claims = Mapping[str, Sequence[str]]
"""Each claim in words -> what tests it: "study/question", or "study/question/level" of a contrast."""


def summary_page(studies: Mapping[str, Study], claims: Claims, profile: str, store: Store) -> Page:
    """The page on what the store holds of these studies.

    Args:
        studies: By name.
        claims: In words, and what tests them.
        profile: At which profile.
        store: Where the results are.

    Raises:
        UserError: a profile that no study has, or one that the store holds no trial of.
    """
    plain = profile.partition("@")[0]
    there = {name: study for name, study in studies.items() if plain in [p.name for p in study.profiles]}
    if not there:
        raise unknown_name("profile", profile, dict.fromkeys(p.name for s in studies.values() for p in s.profiles))
    ran = {plan["study"] for plan in store.read_plans() if plan["profile"] == profile}
    found = {name: load_evidence(store, study, profile) for name, study in there.items() if name in ran}
    if not any(len(evidence.rows) for evidence in found.values()):
        held = sorted({plan["profile"] for plan in store.read_plans()} - {profile})
        others = f"it has results of: {', '.join(held)}; name one with --profile" if held else "it has no results"
        raise UserError(f"{store.root} holds no trial of the profile {profile}; {others}")
    absent = [name for name in there if name not in found]
    at = next(iter(there.values())).profile(profile)
    seeds = max(evidence.num_seeds for evidence in found.values())
    named = [one for references in claims.values() for one in _named(references, studies, profile)]
    judged = judged_together(dict.fromkeys(named), found)
    table = _claim_table(claims, judged, found)
    others = [f"{name}{profile.removeprefix(plain)}" for name in at.beside]  # on the same data
    beside = {other: _at_another(there, other, claims, store) for other in others}
    for place, (other, said) in enumerate(((other, said) for other, said in beside.items() if said), start=3):
        table.insert(place, f"at {other}", said)
    answers = [answer for evidence in found.values() for answer in evidence.answers]
    metrics = [tables.metrics_table(evidence.answers, evidence.design) for evidence in found.values()]
    metrics = pd.concat([table.assign(study=name) for name, table in zip(found, metrics, strict=True)])
    of = [name for name, evidence in found.items() for _ in evidence.answers]
    return Page(
        name="summary",
        title="What the founding document claims, and what came out",
        lead=f"Profile **{profile}**: {scope(at, seeds)}"
        + (f" **No results yet of: {', '.join(absent)}.** Nothing can be said of their claims." if absent else ""),
        sections=[
            Section("claims", "The document's claims", [*_linked(table, claims, judged, len(set(named))), HOW_TO_READ]),
            *(Section(name, study.title, _answers(study, profile, store, found)) for name, study in there.items()),
            Section("provenance", "How these numbers were made", _provenance(found)),
        ],
        tables={
            "claims": Written(table, table),
            "verdicts": Written(tables.verdict_table(answers).assign(study=of), tables.formatted_verdicts(answers)),
            **({"metrics": Written(metrics, None)} if len(metrics) else {}),
        },
        notebook="summary.ipynb",
        parameters={"profile": profile, "store": str(store.root)},
    )


def _at_another(studies: Mapping[str, Study], profile: str, claims: Claims, store: Store) -> list[str]:
    """The verdict on each claim at another profile, judged as a page of its own; empty where nothing ran at it."""
    plain = profile.partition("@")[0]
    asked = {name: study for name, study in studies.items() if plain in [p.name for p in study.profiles]}
    ran = {plan["study"] for plan in store.read_plans() if plan["profile"] == profile}
    found = {name: load_evidence(store, study, profile) for name, study in asked.items() if name in ran}
    if not any(len(evidence.rows) for evidence in found.values()):
        return []
    judged = judged_together(
        dict.fromkeys(one for references in claims.values() for one in _named(references, asked, profile)), found
    )
    return [_verdicts(_on_page(_tested(references, found), judged)) or "–" for references in claims.values()]


def _linked(table: pd.DataFrame, claims: Claims, judged: Mapping[Named, Answer], named: int) -> list[Block]:
    """The founding document's claims, each with the verdicts of the questions that test it, and leading to them."""
    first = [references[0].split("/")[0] if references else "" for references in claims.values()]
    shown = table.assign(claim=[link(words, study) for words, study in zip(table.claim, first, strict=True)])
    shown["effects [95%]"] = shown["effects [95%]"].str.replace("; ", "\n")
    rate = f"{error_rate(named, 'that the document makes, in all its studies together')} {STUDY_ALONE}"
    return [shown, *notes(tables.why_no_interval(list(judged.values()))), *[rate] * bool(named)]


def _answers(study: Study, profile: str, store: Store, found: Mapping[str, Evidence]) -> list[Block]:
    """All claims of a study with their verdicts, or plainly that it has no results."""
    if study.name not in found:
        command = provenance.make_command(store, f"study-{study.name}", f"PROFILE={profile}")
        return [
            f"**No results.** The study {study.name} never ran in this store at the profile {profile}: "
            f"`{command}` runs it."
        ]
    evidence = found[study.name]
    answers = evidence.answers
    figure = figures.claims(answers, [evidence.design.question(a.question).smallest_effect for a in answers])
    alt = f"{study.title} Each claim's effect in units of the smallest effect of interest, with its interval"
    sentences = "\n".join(f"- {answer.sentence}" for answer in answers)
    return [
        *warnings(evidence),
        *([] if figure is None else [Picture(f"{study.name}-claims", alt, figure)]),
        f"{tally(answers)} [↑ all claims](#claims)",
        Fold("All answers of this study", [*verdicts(evidence), *by_metrics(evidence), sentences]),
    ]


def _provenance(found: Mapping[str, Evidence]) -> list[Block]:
    """How the numbers of each study were made."""
    boxes: list[Block] = [Fold(name, [provenance.provenance(evidence)]) for name, evidence in found.items()]
    if len({evidence.plan["protocol_id"] for evidence in found.values()}) > 1:
        boxes.append("> The studies were scored under different protocols: no score may be compared across them.")
    return boxes


def judged_together(named: Iterable[Named], found: Mapping[str, Evidence]) -> dict[Named, Answer]:
    """The answers to the claims of several studies that a page is about, which share one error rate.

    Those without results share it, too, and have no answer.
    """
    tests = {
        (name, one.question.key, one.by[0].claim.level): one
        for name, evidence in found.items()
        for one in evidence.tests
    }
    wanted = list(named)
    there = [one for one in wanted if one in tests]
    answers = settle([tests[one] for one in there], unasked=len(wanted) - len(there))
    return dict(zip(there, answers, strict=True))


def _named(references: Sequence[str], studies: Mapping[str, Study], profile: str) -> list[Named]:
    """The claims that references name, of the studies that can be asked at this profile."""
    named = []
    for reference in references:
        study, key, *level = reference.split("/", 2)
        if study in studies and profile.partition("@")[0] in [p.name for p in studies[study].profiles]:
            design = studies[study].at(profile)
            question = design.question(key)
            places = claims_of(question, list(level_arms(design, question).values()).index(question.baseline))
            named += [(study, key, one.level) for one in places if not level or one.level == level[0]]
    return named


def _claim_table(claims: Claims, judged: Mapping[Named, Answer], found: Mapping[str, Evidence]) -> pd.DataFrame:
    """One row a claim: as one of the page's, and as one of its study's."""
    rows = []
    for words, references in claims.items():
        tested = _tested(references, found)
        alone = [answer for _, answer in tested]
        answers = _on_page(tested, judged)
        verdict = _verdicts(answers) or ("no results" if references else "not tested")
        also = [tables.by_metrics(a, len(_question(found, *one).also)) for a, one in zip(answers, tested, strict=True)]
        effects = [
            ", ".join(
                [
                    f"{tables.compared(a)} {tables.effect_of(a)}".strip(),
                    *(f"{by}: {says}, {seen}" for by, says, seen, _ in others),
                ]
            )
            for a, others in zip(answers, also, strict=True)
        ]
        if len(effects) > 1:
            effects = [f"{_about(found, *one)} {text}" for one, text in zip(tested, effects, strict=True)]
        seeds = sorted({a.n for a in answers})
        rows.append(
            {
                "claim": words,
                "verdict": verdict,
                "in its study": _verdicts(alone) or "–",
                "tests": str(len(answers)),
                "effects [95%]": "; ".join(effects) or "–",
                "n": "–".join(dict.fromkeys(str(n) for n in (seeds[:1] + seeds[-1:]))) or "–",
                "diverged": str(sum(a.failures for a in answers)),
                "seeds needed": _needed(answers),
            }
        )
    return pd.DataFrame(rows)


def _on_page(tested: Sequence[tuple[str, Answer]], judged: Mapping[Named, Answer]) -> list[Answer]:
    """The same answers as those of the page."""
    return [judged[reference.split("/")[0], answer.question, answer.level] for reference, answer in tested]


def _verdicts(answers: Sequence[Answer]) -> str:
    """The verdict that all have, or how many have which."""
    counts = {v: sum(a.verdict == v for a in answers) for v in figures.VERDICTS}
    said = [f"{n} {v}" for v, n in counts.items() if n]
    return ", ".join(said) if len(said) != 1 else next(v for v in counts if counts[v])


def _tested(references: Sequence[str], found: Mapping[str, Evidence]) -> list[tuple[str, Answer]]:
    """The answers that some references name, each with its reference."""
    return [(reference, answer) for reference in references for answer in _tests(reference, found)]


def _tests(reference: str, found: Mapping[str, Evidence]) -> list[Answer]:
    """The answers that a reference names; none where its study has no results."""
    study, question, *level = reference.split("/", 2)
    mine = [a for a in found[study].answers if a.question == question] if study in found else []
    return [a for a in mine if not level or a.level == level[0]]


def _about(found: Mapping[str, Evidence], reference: str, answer: Answer) -> str:
    """The network that an answer is about, and the level where one is named: "dc, 2 G steps per D step"."""
    baseline = _question(found, reference, answer).baseline
    return f"{baseline}, {answer.level}" if answer.level else baseline


def _question(found: Mapping[str, Evidence], reference: str, answer: Answer) -> Question:
    return found[reference.split("/")[0]].design.question(answer.question)


def _needed(answers: Sequence[Answer]) -> str:
    """Seeds that would settle the open ones among these answers, as far as a number is known."""
    still = [a for a in answers if a.verdict == "unresolved"]
    known = [a.seeds_needed for a in still if a.seeds_needed is not None]
    if not answers or (still and all(a.problem for a in still)):
        return "–"
    if not still:
        return "–" if any(a.verdict == NOT_TESTABLE for a in answers) else "settled"
    return f"{max(known)}" + (" or more" if len(known) < len(still) else "") if known else f"> {MOST_SEEDS}"
