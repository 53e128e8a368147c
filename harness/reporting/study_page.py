"""The page of one study: its answers, then each question with effects, samples, scores, training and memorization."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from harness.analysis import memorization
from harness.analysis.answers import Answer
from harness.analysis.evidence import Evidence
from harness.analysis.statistics import FEWEST_FOR_AN_INTERVAL
from harness.analysis.wording import count, p_value
from harness.metrics import METRICS
from harness.reporting import figures, tables
from harness.reporting.blocks import Block, Fold, Numbers, Page, Picture, Section, Table, Text
from harness.study import Profile, Question, Study


def study_page(evidence: Evidence, *, protocol: str | None = None, made_from: str = "") -> Page:
    """The page of a study.

    Args:
        evidence: What is shown.
        protocol: By whose scores the evidence was loaded, as it was asked for; the notebook repeats it.
        made_from: As in `Page`.
    """
    study, rows = evidence.study, evidence.rows
    answers = evidence.answers
    levels = {question.key: tables.question_table(study, question, rows) for question in study.questions}
    overview, costs = tables.overview_table(rows, evidence.arms), tables.cost_table(rows, evidence.arms)
    named = f"Study **{study.name}**, profile **{evidence.profile.name}**"
    return Page(
        name=study.name,
        title=study.title,
        lead=f"{named}: {scope(evidence.profile, evidence.num_seeds)} {study.note}".strip(),
        sections=[
            answers_section(evidence),
            *(question_section(evidence, question, levels[question.key]) for question in study.questions),
            arms_section(evidence, overview, costs),
            Section("provenance", "How these numbers were made", [provenance(evidence)]),
        ],
        tables={
            "verdicts": Numbers(tables.verdict_table(answers), tables.formatted_verdicts(answers)),
            **{
                question.key: Numbers(levels[question.key], tables.formatted(levels[question.key], question.metric))
                for question in study.questions
            },
            "overview": Numbers(overview, tables.formatted(overview)),
            "costs": Numbers(costs, tables.formatted_costs(costs)),
            "results": Numbers(rows, None),
        },
        notebook="study.ipynb",
        parameters={
            "study": study.file or study.name,
            "profile": evidence.profile.name,
            "store": str(evidence.store.root),
            "protocol": protocol,
        },
        made_from=made_from,
    )


def answers_section(evidence: Evidence) -> Section:
    """Every claim of the study with its verdict, what to beware of, and how to read both."""
    said = [Text(tally(evidence.answers)), *verdicts(evidence.study, evidence.answers, linked=True)]
    return Section("answers", "Answers", [*said, *cautions(evidence), HOW_TO_READ])


def question_section(evidence: Evidence, question: Question, table: pd.DataFrame) -> Section:
    """One question: its hypothesis and answers, effects and samples; the rest folded below them.

    Args:
        evidence: The study's.
        question: Of the study.
        table: Its `tables.question_table`.
    """
    study, rows = evidence.study, evidence.rows
    metric, arms = METRICS[question.metric], study.arms(question)
    found = {arm: tables.values(rows, arm, question.metric) for arm in arms.values()}
    lacking = [f"`{arm}`" for arm, values in found.items() if values.empty]
    said = [f"- {answer.sentence}" for answer in evidence.answers if answer.question == question.key]
    part = (study, question, rows)
    effects = _picture(
        figures.effects(*part), question, "effects", "Effect of each level against the baseline, every seed"
    )
    blocks: list[Block] = [
        Text(f"**Expected:** {question.hypothesis}"),
        Text("\n".join(said)),
        *[Text(f"No scored trial yet of: {', '.join(lacking)}.")] * bool(lacking),
        Text("[↑ all answers](#answers)"),
        *(effects or [_no_effect(question, pd.concat(found.values()))]),
    ]
    shown = set(arms.values())  # once in a report, though several questions may be asked of these arms
    first = next(q for q in study.questions if shown <= set(study.arms(q).values()))
    if first is question:
        samples = figures.samples(*part, evidence.store)
        blocks += _picture(samples, question, "samples", "Generated samples at each level")
    else:
        blocks.append(Text(f"*Samples and curves of these arms stand under “{first.text}”*"))
    levels = figures.levels(*part, evidence.reference)
    scores = [*with_note(tables.formatted(table, question.metric)), *_pairing(table)]
    scores += _picture(levels, question, "levels", f"{metric.label} at each level, every seed")
    blocks.append(Fold("Scores at each level", scores))
    if first is question:
        blocks += [*_training(evidence, question), *_memorization(evidence, question)]
    return Section(question.key, question.text, blocks)


def _no_effect(question: Question, reached: pd.Series) -> Text:
    metric = METRICS[question.metric]
    if len(reached) and reached.eq(math.inf).all():
        return Text("*At no seed did a level or its baseline come to a finite value: there is no effect to draw.*")
    if metric.scale == "ratio" and reached.le(0).any():
        return Text(f"*Where {metric.label} is 0 there is no ratio, and so there is no effect to draw.*")
    return Text("*No two arms of this question share a scored seed yet, so there is no effect to draw.*")


def _training(evidence: Evidence, question: Question) -> list[Block]:
    part = (evidence.study, question, evidence.rows, evidence.store)
    fid, balance = figures.fid_over_training(*part), figures.balance(*part)
    shown = _picture(fid, question, "training", "Online FID against images seen and seconds")
    shown += _picture(balance, question, "balance", "Losses, D's answers and accuracy")
    return [Fold("Training: FID against images and seconds, balance of G and D", shown)] if shown else []


def _memorization(evidence: Evidence, question: Question) -> list[Block]:
    trials = figures.same_seed(evidence.study.arms(question), evidence.rows, evidence.store)
    if not trials:
        return []
    found = {arm: memorization.of_trial(evidence.store, trial.trial_id) for arm, trial in trials.items()}
    kept = {arm: pair for arm, pair in found.items() if pair is not None}
    shown: list[Block] = [Text(NEAREST if kept else NO_TRAINING_IMAGES)]
    if kept:
        figure = figures.neighbours(evidence.study, question, kept)
        shown += _picture(figure, question, "neighbours", "Samples above their nearest training images")
    return [Fold("Memorization: the training images nearest to samples", shown)]


def arms_section(evidence: Evidence, overview: pd.DataFrame, costs: pd.DataFrame) -> Section:
    """Every arm of the study: scores, cost, and the trials that diverged or failed."""
    lost = tables.failure_table(evidence.rows)
    folds = [
        Fold("Scores", with_note(tables.formatted(overview))),
        Fold("Cost of a trial", [Table(tables.formatted_costs(costs))]),
        *[Fold("Trials that diverged or failed", [Table(lost)])] * bool(len(lost)),
    ]
    return Section("arms", "Every arm", folds)


# ---- what the summary shows, too ----


def scope(profile: Profile, seeds: int) -> str:
    """What answers are about: data, budget, seeds. A baseline may have a budget of its own."""
    data, kimg = profile.changes.get("dataset"), profile.changes.get("kimg")
    seen = ("images" if kimg is None else f"{kimg:g} thousand images") + (f" of {data}" if data else "")
    return (
        f"networks that see {seen}, {count(seeds, 'training seed')} an arm. What is refuted "
        "here is refuted for these, not for every GAN, and what takes longer training cannot show."
    )


def cautions(evidence: Evidence) -> list[Block]:
    """What a reader must know before believing the tables."""
    found = tables.cautions(evidence.study, evidence.profile.name, evidence.store, evidence.rows)
    found += tables.extractor_proof(evidence.study, evidence.profile.name, evidence.store)
    return [Text("\n>\n".join(f"> {caution}" for caution in found))] if found else []


def provenance(evidence: Evidence) -> Table:
    """How the numbers were made."""
    return Table(tables.provenance(evidence.study, evidence.profile.name, evidence.store, evidence.rows))


def tally(answers: Sequence[Answer]) -> str:
    """How many claims came out how: "14 claims: 5 supported, 4 refuted, 5 unresolved."."""
    if not answers:
        return "*No claim could be tested yet.*"
    counts = [f"{sum(a.verdict == v for a in answers)} {v}" for v in figures.VERDICTS]
    return f"{count(len(answers), 'claim')}: {', '.join(counts)}."


def verdicts(study: Study, answers: Sequence[Answer], *, linked: bool = False) -> list[Block]:
    """The table of verdicts, and what its p values are of; `linked` to the sections of their questions."""
    if not answers:
        return []
    shown = tables.formatted_verdicts(answers)
    if linked:
        shown["claim"] = [link(a.claim, a.question) for a in answers]
    blocks = with_note(shown)
    reach = {a.n: a.smallest_p for a in answers if a.n}
    least = ", ".join(f"{p_value(p)} with {count(n, 'seed')}" for n, p in sorted(reach.items()))
    mostly = "an anytime-valid t test" if any("anytime" in a.method for a in answers) else "Student's t"
    if least:
        blocks.append(Text(
            f"*p is that of the verdict's test, mostly {mostly} of paired differences, which uses their sizes. The "
            "exact p beside it is of a test that flips their signs only: it assumes less, and can come no lower than "
            f"{least}.*"
        ))  # fmt: skip
    if any(study.question(a.question).expected == "equal" for a in answers):
        blocks.append(Text(
            "*Of a claim that something is the same, p is of the test that the difference is smaller than the "
            "smallest effect of interest: a small p shows that it is, and p = 1 only that this is not shown.*"
        ))  # fmt: skip
    return blocks


def with_note(table: pd.DataFrame) -> list[Block]:
    """A formatted table, and why intervals are missing where they are."""
    lacking = table.map(lambda cell: "[–]" in str(cell)).any(axis=None)
    return [Table(table), *[Text(NO_INTERVAL)] * bool(lacking)]


def link(text: str, name: str) -> str:
    """Text that leads to the section of that name; text alone without one."""
    return "[{}](#{})".format(text.replace("[", r"\[").replace("]", r"\]"), name) if name else text


def _picture(figure: Figure | None, question: Question, kind: str, shows: str) -> list[Block]:
    return [] if figure is None else [Picture(f"{question.key}-{kind}", f"{question.text} {shows}", figure)]


def _pairing(table: pd.DataFrame) -> list[Block]:
    if "seed_correlation" not in table or table.seed_correlation.dropna().empty:
        return []
    shown = ", ".join(
        f"{r.level}: {r.seed_correlation:+.2f}".replace(": -", ": −")
        for r in table.dropna(subset="seed_correlation").itertuples()
    )
    return [Text(
        f"*Correlation over seeds with the baseline: {shown}. Above +{table.pairing_pays_above.max():.2f}, pairing "
        "by seed made the interval narrower than it would be unpaired.*"
    )]  # fmt: skip


NO_INTERVAL = (
    f"*[–]: no interval. Fewer than {FEWEST_FOR_AN_INTERVAL} seeds say too little of how much seeds differ (a 95% "
    "interval from two would be 9 standard deviations wide either way), and a mean at a bound of its metric has none.*"
)

NO_TRAINING_IMAGES = (
    "*The prepared training images are no longer in the store's cache, so samples cannot be compared with them; a run of "
    "the study prepares them again.*"
)

NEAREST = (
    "The samples nearest to a training image come first. Far below 1 a generator copies, or draws less than digits vary "
    "(blur also lies near everything): the pairs tell which."
)

HOW_TO_READ = Fold("How to read this", [Text("""\
A trial is one training run, named by its seed; all arms run the same seeds, for the same number of images. Effects are
against the baseline arm, paired by seed, with 95% intervals over seeds: ratios (geometric means) of FID, differences of
what is bounded. Before anything ran, each question declared its expectation, the metric that decides and the smallest
effect of interest, below which an effect counts as none.

- **supported**: the expectation was shown, after correction for the number of claims in the question (Holm).
- **refuted**: shown, too: the opposite, or an effect smaller than the smallest of interest.
- **unresolved**: neither. Not evidence of no difference; 'seeds needed' says how many in all would probably settle it.

The p beside a verdict is its own: of what refutes the claim where it is refuted, otherwise of the claim. The first is
uncorrected, the one in brackets corrected by Holm.

*Above any ratio* and *below any ratio* are said where, at most seeds, one of the two compared has no finite value: it
diverged, or never reached the level of FID that is asked for. The effect is then the median over seeds. A diverged
trial is an outcome: it counts as worse than any score. Scores belong to the protocol at the end of the page and cannot
be compared with another's.

The interval of an arm's own mean is computed on the scale on which its metric has no end (the logarithm of FID, the log
odds of precision, recall and accuracy), so that it holds only values that there can be.
""")])  # fmt: skip
