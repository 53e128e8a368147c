"""The page of one study: its answers, then each question with effects, samples, scores, training and memorization."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from harness.analysis import memorization
from harness.analysis.effects import arm_values, level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.verdicts import Answer
from harness.analysis.wording import count, number, p_value
from harness.metrics import METRICS
from harness.questions import Question
from harness.reporting import figures, provenance, tables
from harness.reporting.blocks import Block, Fold, Page, Picture, Section, Written
from harness.reporting.parallel import at_work
from harness.reporting.tuning_section import tuning_section, tuning_tables
from harness.study import Profile


def study_page(evidence: Evidence, protocol: str | None = None, processes: int = 1) -> Page:
    """The page of a study.

    Args:
        evidence: What it is made from.
        protocol: What the evidence was loaded by, which its notebook asks for again.
        processes: How many draw its figures at once; 1 draws each when it is first asked for.
    """
    design = evidence.design
    drawing = [partial(_picture, evidence, q, kind, processes > 1) for q in design.questions for kind in _KINDS]
    with at_work(drawing, processes) as drawn:
        answers, written = evidence.answers, study_tables(evidence)
        pictures = {picture.name: picture for picture in drawn() if picture}
    named = f"Study **{design.name}**, profile **{design.profile.name}**"
    reach = scope(design.profile, evidence.num_seeds)
    said = [tally(answers), *verdicts(evidence, linked=True), *by_metrics(evidence)]
    said += [*_published(written), *warnings(evidence), HOW_TO_READ]
    return Page(
        name=design.name,
        title=design.title,
        lead=" ".join(part for part in (f"{named}:", reach, design.note, *_by(evidence)) if part),
        sections=[
            Section("answers", "Answers", said),
            *(_question(evidence, question, written[question.key], pictures) for question in design.questions),
            *tuning_section(evidence, written),
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


def _by(evidence: Evidence) -> list[str]:
    """By whose scores a page is, where these are not what the last run asked for."""
    name = provenance.scored_by(evidence)
    return [] if evidence.of_run else [f"**This page goes by the scores of {name}**, and not by those of the last run."]


def study_tables(evidence: Evidence) -> dict[str, Written]:
    """The tables of a study's page, by the names of their files."""
    answers, overview, costs = evidence.answers, tables.overview_table(evidence), tables.cost_table(evidence)
    further = tables.further_table(evidence)
    levels = [(question, tables.question_table(evidence, question)) for question in evidence.design.questions]
    metrics, published = tables.metrics_table(answers, evidence.design), tables.published_table(evidence)
    return {
        "verdicts": Written(tables.verdict_table(answers), tables.formatted_verdicts(answers)),
        **({"metrics": Written(metrics, tables.formatted_metrics(answers, evidence.design))} if len(metrics) else {}),
        **{question.key: Written(table, tables.formatted(table, question)) for question, table in levels},
        **tuning_tables(evidence),
        **({"published": Written(published, tables.formatted_published(published))} if len(published) else {}),
        "overview": Written(overview, tables.formatted(overview)),
        **({"further": Written(further, tables.formatted_further(further, evidence))} if len(further) else {}),
        "costs": Written(costs, tables.formatted_costs(costs)),
        "results": Written(evidence.rows, None),
    }


def _question(evidence: Evidence, question: Question, table: Written, pictures: Mapping[str, Picture]) -> Section:
    """One question: its hypothesis and answers, effects and samples; the rest folded below them."""
    metric = METRICS[question.metric]
    arms, first = level_arms(evidence.design, question).values(), _shown_at(evidence, question)
    found = {arm: arm_values(evidence.rows, arm, question.metric) for arm in arms}
    lacking = [f"`{arm}`" for arm, values in found.items() if values.empty]

    def picture(kind: str) -> list[Block]:
        name = f"{question.key}-{kind}"
        return [pictures[name]] if name in pictures else []

    blocks: list[Block] = [
        f"**Expected:** {question.hypothesis}",
        "\n".join(f"- {answer.sentence}" for answer in evidence.answers if answer.question == question.key),
        *[f"No scored trial yet of: {', '.join(lacking)}."] * bool(lacking),
        *[TREND] * (question.kind == "trend"),
        "[↑ all answers](#answers)",
        *(picture("effects") or [_no_effect(question, pd.concat(found.values()))]),
    ]
    if first is question:
        blocks += picture("samples")
    else:
        blocks.append(f"*Samples and curves of these arms stand under “{first.text}”*")
    scores = [table.shown, *notes(tables.why_no_interval(table=table.numbers)), *_pairing(table.numbers)]
    if math.isfinite(real := tables.of_real_images(evidence, question.metric, set(arms))):
        scores.append(f"*Real images, scored the same way: {metric.label} {number(real)}.*")
    blocks.append(Fold("Scores at each level", [*scores, *picture("levels")]))
    if training := [*picture("training"), *[ONLINE] * bool(picture("training")), *picture("balance")]:
        blocks.append(Fold("Training: FID against images and seconds, balance of G and D", training))
    if first is question and figures.same_seed(evidence, question):
        title = "Memorization: the training images nearest to samples"
        blocks.append(Fold(title, [NEAREST, *nearest] if (nearest := picture("neighbours")) else [NO_TRAINING_IMAGES]))
    return Section(question.key, question.text, blocks)


def _shown_at(evidence: Evidence, question: Question) -> Question:
    """The first question that has all of this one's arms: their samples and curves are shown once, there."""
    arms = set(level_arms(evidence.design, question).values())
    return next(q for q in evidence.design.questions if arms <= set(level_arms(evidence.design, q).values()))


def _training(evidence: Evidence, question: Question) -> Figure | None:
    return figures.fid_over_training(evidence, question, figures.curves(evidence, question))


def _balance(evidence: Evidence, question: Question) -> Figure | None:
    return figures.balance(evidence, question, figures.curves(evidence, question))


def _neighbours(evidence: Evidence, question: Question) -> Figure | None:
    trials = figures.same_seed(evidence, question)
    pairs = {arm: memorization.of_trial(evidence.store, trial.trial_id) for arm, trial in trials.items()}
    kept = {arm: pair for arm, pair in pairs.items() if pair is not None}
    return figures.nearest_images(evidence, question, kept)


_KINDS: dict[str, tuple[Callable[[Evidence, Question], Figure | None], str]] = {
    "effects": (figures.effects, "Effect of each level against the baseline, every seed"),
    "samples": (figures.samples, "Generated samples at each level"),
    "levels": (figures.levels, "{metric} at each level, every seed"),
    "training": (_training, "Online FID against images seen and seconds"),
    "balance": (_balance, "Losses, D's answers and accuracy"),
    "neighbours": (_neighbours, "Samples above their nearest training images"),
}
"""A question's pictures, by the end of their names: what makes each, and what it shows, for those who cannot see it."""
_ONCE = {"samples", "training", "balance", "neighbours"}
"""Those that are about arms alone, and stand under the first question that has these arms."""


def _picture(evidence: Evidence, question: Question, kind: str, draw: bool) -> Picture | None:
    """A question's picture, drawn now or when it is first asked for; None where there is nothing to show."""
    if kind in _ONCE and _shown_at(evidence, question) is not question:
        return None
    make, shows = _KINDS[kind]
    if (figure := make(evidence, question)) is None:
        return None
    metric = METRICS[question.metric].label
    picture = Picture(f"{question.key}-{kind}", f"{question.text} {shows.format(metric=metric)}", figure)
    _ = draw and picture.png
    return picture


def _published(written: Mapping[str, Written]) -> list[Block]:
    """What was published beside what came out here, where the study names a file of that."""
    if "published" not in written:
        return []
    table = written["published"]
    told = dict.fromkeys(zip(table.numbers.source, table.numbers.protocol, strict=True))
    return [PUBLISHED, table.shown, *notes([f"Published: {source}. Its protocol: {how}." for source, how in told])]


def _no_effect(question: Question, reached: pd.Series) -> str:
    metric = METRICS[question.metric]
    if len(reached) and reached.eq(math.inf).all():
        return "*No trial of these arms came to a finite value, so there is no effect to draw.*"
    if metric.scale == "ratio" and reached.le(0).any():
        return f"*Where {metric.label} is 0 there is no ratio, and so there is no effect to draw.*"
    return "*No level has a scored trial at the same seed as the baseline yet, so there is no effect to draw.*"


def _pairing(table: pd.DataFrame) -> list[Block]:
    if "seed_correlation" not in table or table.seed_correlation.dropna().empty:
        return []
    known = table.dropna(subset="seed_correlation")
    shown = [f"{r.level}: {r.seed_correlation:+.2f}".replace(": -", ": −") for r in known.itertuples()]
    return [
        f"*Correlation over seeds with the baseline: {', '.join(shown)}. Where it is above "
        f"+{table.pairing_pays_above.max():.2f}, comparing the arms seed by seed has made the interval narrower.*"
    ]


FURTHER_NOTE = (
    "*Density and coverage: Naeem et al. 2020. Memorization is the chance that a sample lies nearer to a training "
    "image than a real image that nothing was trained on does: 0.5 is to be expected, copies have 1, and samples that "
    "are like no image 0. Modes are the classes that the classifier sees among the samples; mode KL is how far their "
    "shares are from those of real images.*"
)


def _arms(evidence: Evidence, written: Mapping[str, Written]) -> list[Block]:
    """Every arm of the study: scores, cost, and the trials that diverged or failed."""
    overview, lost = written["overview"], tables.failure_table(evidence.rows)
    return [
        Fold("Scores", [overview.shown, *notes(tables.why_no_interval(table=overview.numbers))]),
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
        f"networks that see {seen}, {count(seeds, 'training seed')} per arm. What is refuted "
        "here is refuted for these, not for every GAN, and what takes longer training cannot show."
    )


def warnings(evidence: Evidence) -> list[Block]:
    """What a reader must know before believing the tables."""
    found = provenance.warnings(evidence)
    return ["\n>\n".join(f"> {warning}" for warning in found)] if found else []


def tally(answers: Sequence[Answer]) -> str:
    """How many claims came out how: "14 claims: 5 supported, 4 refuted, 5 unresolved."."""
    if not answers:
        return "*No claim could be tested yet.*"
    counts = {v: sum(a.verdict == v for a in answers) for v in figures.VERDICTS}
    told = [f"{n} {v}" for v, n in counts.items() if n or v in ("supported", "refuted", "unresolved")]
    return f"{count(len(answers), 'claim')}: {', '.join(told)}."


def error_rate(claims: int, of: str = "of this study") -> str:
    """At what the verdicts of a page are controlled, in words."""
    which = f"on any of the {claims} claims" if claims > 1 else "on the claim"
    return (
        f"*Of studies like this one, at most 5% get a false verdict {which} {of}, if differences between seeds are "
        "roughly normal"
        + (": for this, p is corrected for their number by Holm's method" if claims > 1 else "")
        + ". Where arms collapse in a third of their trials, it may be up to 10%.*"
    )


def verdicts(evidence: Evidence, *, linked: bool = False) -> list[Block]:
    """The table of verdicts, and what its p values are of; `linked` to the sections of their questions."""
    design, answers = evidence.design, evidence.answers
    if not answers:
        return []
    shown = tables.formatted_verdicts(answers)
    if linked:
        shown["claim"] = [link(a.claim, a.question) for a in answers]
    blocks: list[Block] = [shown, *notes(tables.why_no_interval(answers))]
    reach = {a.n: a.smallest_p for a in answers if a.n}
    least = ", ".join(f"{p_value(p)} with {count(n, 'seed')}" for n, p in sorted(reach.items()))
    mostly = "an anytime-valid t test" if any("anytime" in a.method for a in answers) else "Student's t"
    if least:
        blocks.append(
            f"*p belongs to the test that the verdict rests on. Mostly this is {mostly} of paired differences; "
            "where too few seeds go that way for a sign test at 5% a side, it is the p of the signs. The "
            "exact p beside it belongs to a test that tries all ways to change the signs of these differences. It "
            f"assumes less, but it cannot be smaller than {least}.*"
        )
    blocks.append(error_rate(len(answers)))
    if any(design.question(a.question).expected == "equal" for a in answers):
        blocks.append(P_OF_EQUALITY)
    return blocks


def by_metrics(evidence: Evidence) -> list[Block]:
    """The table of what each of several metrics says, where any claim has several."""
    shown = tables.formatted_metrics(evidence.answers, evidence.design)
    return ["**By each metric.** " + SEVERAL_METRICS, shown] if len(shown) else []


def notes(sentences: Sequence[str]) -> list[Block]:
    """What stands below a table, in italics."""
    return [f"*{sentence}*" for sentence in sentences]


def link(text: str, name: str) -> str:
    """Text that leads to the section of that name; text alone without one."""
    return "[{}](#{})".format(text.replace("[", r"\[").replace("]", r"\]"), name) if name else text


PUBLISHED = (
    "**Against what was published.** A published value, or the difference of two, lies inside the 95% interval of our "
    "seeds or outside it. With fewer than six seeds, or where a trial diverged and the value is a number, it is "
    "unresolved. Published values are about their own networks, data and budget: outside means outside at our scale, "
    "and a wide interval holds many values. Where the paper says that training failed, the share of our trials that "
    "diverged is compared with all of them."
)

SEVERAL_METRICS = (
    "A claim is supported, or refuted, where all metrics that decide say so. Where one supports it and another refutes "
    "it, it depends on the metric. A metric that does not decide is shown beside the one that does. In the table of "
    "verdicts above, the effect is that of the first, and p the largest of those that decide: all must agree."
)

P_OF_EQUALITY = (
    "*Where the claim is that something is the same, p belongs to the test that the difference is smaller than the "
    "smallest effect of interest. A small p shows that it is smaller. A large p shows nothing.*"
)

ONLINE = (
    "*Whatever scores the samples at the end, the online FID is by the classifier of the data's own classes, of fewer "
    "samples, and of the weights as they are averaged then. It compares the curves of a page with each other. Where "
    "another network scores, the two need not agree on which arm is ahead.*"
)
TREND = (
    "*The answer compares the last level with the first. The figures and the table below compare each level with the "
    "baseline, so that their signs may be the other way round.*"
)

NO_TRAINING_IMAGES = (
    "*The prepared training images are no longer in the store's cache, so samples cannot be compared with them; a run "
    "of the study prepares them again.*"
)

NEAREST = (
    "The samples that lie nearest to a training image come first. Where the distance is far below 1, the generator "
    "copies training images, or its images are blurred or vary less than real ones. The pairs show which it is."
)

HOW_TO_READ = Fold(
    "How to read this",
    [
        """\
A **trial** is one training run. An **arm** is one setting, of which several trials are run, each with another random
seed. All arms run the same seeds and, unless the page says otherwise, the same number of images. So each arm can be
compared with the **baseline** arm seed by seed.

Each question declared three things before any trial ran: what it expects, the metric that decides, and the smallest
effect of interest. An effect that is smaller than this counts as no effect. The verdicts are:

- **supported**: the tests show what was expected, also after correction for the number of claims on the page.
- **refuted**: the tests show the opposite, or that the effect is smaller than the smallest effect of interest.
- **depends on the metric**: the question named several metrics that must agree, and one supports the claim where
  another refutes it.
- **not testable at this budget**: the claim is about final quality, and most trials of the arm that the tests speak
  against were still changing when the budget ended. What is worse then may only be slower.
- **unresolved**: the tests show neither. This does not mean that there is no difference. 'Seeds needed' is a rough
  guess of how many seeds in all would settle the claim.

**Effects.** An effect says how the metric of one arm differs from that of another. For FID and for times it is a
ratio (the geometric mean over seeds): ×1.20 is 20% more. For precision, recall, accuracy, IS, KID and losses it is a
difference. The brackets hold the 95% interval. What is compared depends on the claim:

- a claim about one level compares that level with the baseline;
- a claim that the metric rises or falls along the levels compares the last level with the first ("last : first level"
  as a ratio, "last − first level" as a difference). Figures and tables of single levels still compare each level with
  the baseline. Where the baseline is the last level, their signs are therefore the other way round;
- a claim that both ends are worse than a level between them shows the end with the smaller effect.

*Above any ratio* and *below any ratio* stand where, at most seeds, one of the two arms has no finite value: the trial
diverged, or it never reached what is asked for. The effect is then the median over seeds. A trial that diverged is a
result, too: it counts as worse than any score. A seed at which neither arm has a finite value is a tie. It says
nothing, and it is not counted in *n*.

**p values.** The p beside a verdict belongs to that verdict: to the refutation where the claim is refuted, and
otherwise to the claim. The first number is uncorrected, the number in brackets is corrected by Holm's method for all
claims that share the error rate.

**Scores of an arm.** The interval of an arm's own mean holds only values that the metric can have, because it is
computed on a scale without an end (the logarithm of FID, the log odds of precision, recall and accuracy). Scores
depend on the protocol, which stands at the end of the page. They cannot be compared with scores of another protocol.
"""
    ],
)
