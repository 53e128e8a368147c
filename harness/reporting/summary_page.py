"""The summary: every claim of the founding document, and every study's own, on one page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.statistics import MOST_SEEDS
from harness.analysis.verdicts import Answer
from harness.errors import UserError, unknown_name
from harness.questions import Question
from harness.reporting import figures, provenance, tables
from harness.reporting.blocks import Block, Fold, Page, Picture, Section, Written
from harness.reporting.study_page import HOW_TO_READ, by_metrics, link, notes, scope, tally, verdicts, warnings
from harness.storage.store import Store
from harness.study import Study

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
    table = _claim_table(claims, found)
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
            Section("claims", "The document's claims", [*_linked(table, claims, found), HOW_TO_READ]),
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


def _linked(table: pd.DataFrame, claims: Claims, found: Mapping[str, Evidence]) -> list[Block]:
    """The founding document's claims, each with the verdicts of the questions that test it, and leading to them."""
    first = [references[0].split("/")[0] if references else "" for references in claims.values()]
    shown = table.assign(claim=[link(words, study) for words, study in zip(table.claim, first, strict=True)])
    shown["effects [95%]"] = shown["effects [95%]"].str.replace("; ", "\n")
    tested = [answer for words in claims for _, answer in _tested(claims[words], found)]
    return [shown, *notes(tables.why_no_interval(tested))]


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
        Fold("All answers of this study", [*verdicts(evidence.design, answers), *by_metrics(evidence), sentences]),
    ]


def _provenance(found: Mapping[str, Evidence]) -> list[Block]:
    """How the numbers of each study were made."""
    boxes: list[Block] = [Fold(name, [provenance.provenance(evidence)]) for name, evidence in found.items()]
    if len({evidence.plan["protocol_id"] for evidence in found.values()}) > 1:
        boxes.append("> The studies were scored under different protocols: no score may be compared across them.")
    return boxes


def _claim_table(claims: Claims, found: Mapping[str, Evidence]) -> pd.DataFrame:
    rows = []
    for words, references in claims.items():
        tested = _tested(references, found)
        answers = [answer for _, answer in tested]
        counts = {v: sum(a.verdict == v for a in answers) for v in figures.VERDICTS}
        said = [f"{n} {v}" for v, n in counts.items() if n]
        if not references:
            verdict = "not tested"
        elif not answers:
            verdict = "no results"
        else:
            verdict = next(v for v in counts if counts[v]) if len(said) == 1 else ", ".join(said)
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
                "tests": str(len(answers)),
                "effects [95%]": "; ".join(effects) or "–",
                "n": "–".join(dict.fromkeys(str(n) for n in (seeds[:1] + seeds[-1:]))) or "–",
                "diverged": str(sum(a.failures for a in answers)),
                "seeds needed": _needed(answers),
            }
        )
    return pd.DataFrame(rows)


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
        return "settled"
    return f"{max(known)}" + (" or more" if len(known) < len(still) else "") if known else f"> {MOST_SEEDS}"
