"""The page of one study: its answers, then each question with effects, samples, scores, training and memorization."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from harness.analysis import memorization
from harness.analysis.effects import arm_values, level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.statistics import FEWEST_FOR_AN_INTERVAL
from harness.analysis.verdicts import Answer
from harness.analysis.wording import count, p_value
from harness.metrics import METRICS
from harness.questions import Question
from harness.reporting import figures, provenance, tables
from harness.reporting.blocks import Block, Fold, Page, Picture, Section, Written
from harness.study import Design, Profile


def study_page(evidence: Evidence, protocol: str | None = None) -> Page:
    """The page of a study; `protocol` is what the evidence was loaded by, which its notebook asks for again."""
    design, answers, written = evidence.design, evidence.answers, study_tables(evidence)
    named = f"Study **{design.name}**, profile **{design.profile.name}**"
    said = [tally(answers), *verdicts(design, answers, linked=True), *warnings(evidence), HOW_TO_READ]
    return Page(
        name=design.name,
        title=design.title,
        lead=f"{named}: {scope(design.profile, evidence.num_seeds)} {design.note}".strip(),
        sections=[
            Section("answers", "Answers", said),
            *(_question(evidence, question, written[question.key]) for question in design.questions),
            Section("arms", "Every arm", _arms(evidence, written)),
            Section("provenance", "How these numbers were made", [provenance.provenance(evidence)]),
        ],
        tables=written,
        notebook="study.ipynb",
        parameters={
            "study": design.file or design.name,
            "profile": design.profile.name,
            "store": str(evidence.store.root),
            "protocol": protocol,
        },
    )


def study_tables(evidence: Evidence) -> dict[str, Written]:
    """The tables of a study's page, by the names of their files."""
    answers, overview, costs = evidence.answers, tables.overview_table(evidence), tables.cost_table(evidence)
    further = tables.further_table(evidence)
    levels = [(question, tables.question_table(evidence, question)) for question in evidence.design.questions]
    return {
        "verdicts": Written(tables.verdict_table(answers), tables.formatted_verdicts(answers)),
        **{question.key: Written(table, tables.formatted(table, question)) for question, table in levels},
        "overview": Written(overview, tables.formatted(overview)),
        **({"further": Written(further, tables.formatted_further(further))} if len(further) else {}),
        "costs": Written(costs, tables.formatted_costs(costs)),
        "results": Written(evidence.rows, None),
    }


def _question(evidence: Evidence, question: Question, table: Written) -> Section:
    """One question: its hypothesis and answers, effects and samples; the rest folded below them."""
    design, metric = evidence.design, METRICS[question.metric]
    arms = set(level_arms(design, question).values())
    # The same arms are shown once.
    first = next(q for q in design.questions if arms <= set(level_arms(design, q).values()))
    found = {arm: arm_values(evidence.rows, arm, question.metric) for arm in level_arms(design, question).values()}
    lacking = [f"`{arm}`" for arm, values in found.items() if values.empty]

    def picture(figure: Figure | None, kind: str, shows: str) -> list[Block]:
        return [] if figure is None else [Picture(f"{question.key}-{kind}", f"{question.text} {shows}", figure)]

    effects = picture(
        figures.effects(evidence, question), "effects", "Effect of each level against the baseline, every seed"
    )
    blocks: list[Block] = [
        f"**Expected:** {question.hypothesis}",
        "\n".join(f"- {answer.sentence}" for answer in evidence.answers if answer.question == question.key),
        *[f"No scored trial yet of: {', '.join(lacking)}."] * bool(lacking),
        "[↑ all answers](#answers)",
        *(effects or [_no_effect(question, pd.concat(found.values()))]),
    ]
    if first is question:
        blocks += picture(figures.samples(evidence, question), "samples", "Generated samples at each level")
    else:
        blocks.append(f"*Samples and curves of these arms stand under “{first.text}”*")
    scores = [*with_note(table.shown), *_pairing(table.numbers)]
    scores += picture(figures.levels(evidence, question), "levels", f"{metric.label} at each level, every seed")
    blocks.append(Fold("Scores at each level", scores))
    if first is not question:
        return Section(question.key, question.text, blocks)
    curves = figures.curves(evidence, question)
    fid, balance = (draw(evidence, question, curves) for draw in (figures.fid_over_training, figures.balance))
    training = picture(fid, "training", "Online FID against images seen and seconds")
    training += picture(balance, "balance", "Losses, D's answers and accuracy")
    if training:
        blocks.append(Fold("Training: FID against images and seconds, balance of G and D", training))
    if trials := figures.same_seed(evidence, question):
        pairs = {arm: memorization.of_trial(evidence.store, trial.trial_id) for arm, trial in trials.items()}
        kept = {arm: pair for arm, pair in pairs.items() if pair is not None}
        figure = figures.nearest_images(evidence, question, kept)
        nearest = picture(figure, "neighbours", "Samples above their nearest training images")
        title = "Memorization: the training images nearest to samples"
        blocks.append(Fold(title, [NEAREST if nearest else NO_TRAINING_IMAGES, *nearest]))
    return Section(question.key, question.text, blocks)


def _no_effect(question: Question, reached: pd.Series) -> str:
    metric = METRICS[question.metric]
    if len(reached) and reached.eq(math.inf).all():
        return "*At no seed did a level or its baseline come to a finite value: there is no effect to draw.*"
    if metric.scale == "ratio" and reached.le(0).any():
        return f"*Where {metric.label} is 0 there is no ratio, and so there is no effect to draw.*"
    return "*No two arms of this question share a scored seed yet, so there is no effect to draw.*"


def _pairing(table: pd.DataFrame) -> list[Block]:
    if "seed_correlation" not in table or table.seed_correlation.dropna().empty:
        return []
    known = table.dropna(subset="seed_correlation")
    shown = [f"{r.level}: {r.seed_correlation:+.2f}".replace(": -", ": −") for r in known.itertuples()]
    return [
        f"*Correlation over seeds with the baseline: {', '.join(shown)}. Above +{table.pairing_pays_above.max():.2f}, "
        "pairing by seed made the interval narrower than it would be unpaired.*"
    ]


FURTHER_NOTE = (
    "*Density and coverage: Naeem et al. 2020. Memorization is the chance that a sample lies nearer to a training "
    "image than a real image that nothing was trained on does: 0.5 is to be expected, copies have 1, and samples that "
    "are like no image 0. Modes are the classes that the classifier sees among the samples; mode KL is how far their "
    "shares are from those of real images.*"
)


def _arms(evidence: Evidence, written: Mapping[str, Written]) -> list[Block]:
    """Every arm of the study: scores, cost, and the trials that diverged or failed."""
    lost = tables.failure_table(evidence.rows)
    return [
        Fold("Scores", with_note(written["overview"].shown)),
        *([Fold("Further scores", [written["further"].shown, FURTHER_NOTE])] if "further" in written else []),
        Fold("Cost of a trial", [written["costs"].shown]),
        *[Fold("Trials that diverged or failed", [lost])] * bool(len(lost)),
    ]


# ---- what the summary shows, too ----


def scope(profile: Profile, seeds: int) -> str:
    """What answers are about: data, budget, seeds. A baseline may have a budget of its own."""
    data, kimg = profile.changes.get("dataset"), profile.changes.get("kimg")
    seen = ("images" if kimg is None else f"{kimg:g} thousand images") + (f" of {data}" if data else "")
    return (
        f"networks that see {seen}, {count(seeds, 'training seed')} an arm. What is refuted "
        "here is refuted for these, not for every GAN, and what takes longer training cannot show."
    )


def warnings(evidence: Evidence) -> list[Block]:
    """What a reader must know before believing the tables."""
    found = [*provenance.warnings(evidence), *provenance.extractor_proof(evidence)]
    return ["\n>\n".join(f"> {warning}" for warning in found)] if found else []


def tally(answers: Sequence[Answer]) -> str:
    """How many claims came out how: "14 claims: 5 supported, 4 refuted, 5 unresolved."."""
    if not answers:
        return "*No claim could be tested yet.*"
    counts = [f"{sum(a.verdict == v for a in answers)} {v}" for v in figures.VERDICTS]
    return f"{count(len(answers), 'claim')}: {', '.join(counts)}."


def verdicts(design: Design, answers: Sequence[Answer], *, linked: bool = False) -> list[Block]:
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
        blocks.append(
            f"*p is that of the verdict's test, mostly {mostly} of paired differences, which uses their sizes. The "
            "exact p beside it is of a test that flips their signs only: it assumes less, and can come no lower than "
            f"{least}.*"
        )
    if any(design.question(a.question).expected == "equal" for a in answers):
        blocks.append(P_OF_EQUALITY)
    return blocks


def with_note(table: pd.DataFrame) -> list[Block]:
    """A formatted table, and why intervals are missing where they are."""
    lacking = table.map(lambda cell: "[–]" in str(cell)).any(axis=None)
    return [table, *[NO_INTERVAL] * bool(lacking)]


def link(text: str, name: str) -> str:
    """Text that leads to the section of that name; text alone without one."""
    return "[{}](#{})".format(text.replace("[", r"\[").replace("]", r"\]"), name) if name else text


P_OF_EQUALITY = (
    "*Of a claim that something is the same, p is of the test that the difference is smaller than the smallest effect "
    "of interest: a small p shows that it is, and p = 1 only that this is not shown.*"
)

NO_INTERVAL = (
    f"*[–]: no interval. Fewer than {FEWEST_FOR_AN_INTERVAL} seeds say too little of how much seeds differ (a 95% "
    "interval from two would be 9 standard deviations wide either way), and a mean at a bound of its metric has none.*"
)

NO_TRAINING_IMAGES = (
    "*The prepared training images are no longer in the store's cache, so samples cannot be compared with them; a run "
    "of the study prepares them again.*"
)

NEAREST = (
    "The samples nearest to a training image come first. Far below 1 a generator copies, or draws less than digits "
    "vary (blur also lies near everything): the pairs tell which."
)

HOW_TO_READ = Fold(
    "How to read this",
    [
        """\
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
"""
    ],
)
