"""From a store to a report: executes the study's notebook, exports it, and writes the tables beside it."""

import base64
import hashlib
import html
import logging
import math
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from harness.analysis import memorization, results
from harness.analysis.answers import Answer, answer_study
from harness.analysis.statistics import FEWEST_FOR_AN_INTERVAL, MOST_SEEDS
from harness.analysis.wording import count, effect, p_value
from harness.errors import UserError, unknown_name
from harness.metrics import METRICS
from harness.reporting import figures, layout, tables
from harness.storage.integrity import results_checksum
from harness.storage.store import Store
from harness.study import Profile, Question, Study

NOTEBOOKS = Path(__file__).parents[2] / "reports"
MADE_FROM = ".made-from"
"""Beside a report: the digest of what it was made from, so that an unchanged one need not be made again."""


class Page:
    """What a study's notebook shows: one method a part, each displays and returns nothing."""

    def __init__(self, study: Study, profile: str, store: Store | str | Path) -> None:
        """Load the study's results.

        Raises:
            UserError: no such store or profile, or the study never ran here.
        """
        self.study, self.profile = study.at(profile), study.profile(profile)
        self.store = store if isinstance(store, Store) else Store(store)
        self.rows = results.load(self.store, study=study.name, profile=profile)
        planned = results.planned(self.store, study.name, profile)
        self.arms, self.seeds = list(dict.fromkeys(planned.arm)), planned.seed.nunique()
        plan = self.store.read_plan(study.name, profile)
        self.floor = self.store.read_reference(plan["protocol_id"]) if plan else {}
        self.answers = answer_study(self.study, self.rows, sequential=bool(plan and plan.get("sequential")))

    def introduction(self) -> None:
        """What is asked."""
        scope = f"{_scope(self.profile, self.seeds)} {self.study.note}"
        _text(f"# {self.study.title}\n\nStudy **{self.study.name}**, profile **{self.profile.name}**: {scope}")

    def verdicts(self) -> None:
        """Every claim of the study with its verdict, what to beware of, and how to read both."""
        _heading("answers", "Answers")
        _text(f"{_tally(self.answers)}\n\n{_verdicts(self.study, self.answers, linked=True)}")
        self.cautions()
        _text(HOW_TO_READ)

    def cautions(self) -> None:
        """What a reader must know before believing the tables."""
        found = tables.cautions(self.study, self.profile.name, self.store, self.rows)
        found += tables.extractor_proof(self.study, self.profile.name, self.store)
        if found:
            _text("\n>\n".join(f"> {caution}" for caution in found))

    def question(self, key: str) -> None:
        """One question: its hypothesis and answers, effects and samples; the rest folded below them."""
        question = self.study.question(key)
        table = tables.question_table(self.study, question, self.rows)
        said = "\n".join(f"- {a.sentence}" for a in self.answers if a.question == key)
        arms = self.study.arms(question)
        lacking = [arm for arm in arms.values() if tables.values(self.rows, arm, question.metric).empty]
        _heading(key, question.text)
        _text(
            f"**Expected:** {question.hypothesis}\n\n{said}\n\n"
            + (f"No scored trial yet of: {', '.join(f'`{arm}`' for arm in lacking)}.\n\n" if lacking else "")
            + "[↑ all answers](#answers)\n\n"
        )
        part = (self.study, question, self.rows)
        effects = figures.effects(*part)
        _figure(effects, f"{key}-effects", f"{question.text} Effect of each level against the baseline, every seed")
        if effects is None:
            reached = pd.concat([tables.values(self.rows, arm, question.metric) for arm in arms.values()])
            if len(reached) and reached.eq(math.inf).all():
                _text("*At no seed did a level or its baseline come to a finite value: there is no effect to draw.*")
            elif METRICS[question.metric].scale == "ratio" and reached.le(0).any():
                label = METRICS[question.metric].label
                _text(f"*Where {label} is 0 there is no ratio, and so there is no effect to draw.*")
            else:
                _text("*No two arms of this question share a scored seed yet, so there is no effect to draw.*")
        shown = set(arms.values())  # once in a report, though several questions may be asked of these arms
        first = next(q for q in self.study.questions if shown <= set(self.study.arms(q).values()))
        if first is question:
            samples = figures.samples(*part, self.store)
            _figure(samples, f"{key}-samples", f"{question.text} Generated samples at each level")
        else:
            _text(f"*Samples and curves of these arms stand under “{first.text}”*")
        _text("#### Scores at each level")
        _text(_shown(tables.formatted(table, question.metric)) + _pairing_note(table))
        levels = figures.levels(*part, self.floor)
        _figure(levels, f"{key}-levels", f"{question.text} {METRICS[question.metric].label} at each level, every seed")
        if first is question:
            self._training(question)
            self._memorisation(question)

    def _training(self, question: Question) -> None:
        part = (self.study, question, self.rows, self.store)
        fid, balance = figures.fid_over_training(*part), figures.balance(*part)
        if fid or balance:
            _text("#### Training: FID against images and seconds, balance of G and D")
            _figure(fid, f"{question.key}-training", f"{question.text} Online FID against images seen and seconds")
            _figure(balance, f"{question.key}-balance", f"{question.text} Losses, D's answers and accuracy")

    def _memorisation(self, question: Question) -> None:
        trials = figures.same_seed(self.study.arms(question), self.rows, self.store)
        if not trials:
            return
        found = {arm: memorization.of_trial(self.store, trial.trial_id) for arm, trial in trials.items()}
        kept = {arm: pair for arm, pair in found.items() if pair is not None}
        _text("#### Memorisation: the training images nearest to samples")
        if not kept:
            _text(
                "*The prepared training images are no longer in the store's cache, so samples cannot be compared with "
                "them; a run of the study prepares them again.*"
            )
            return
        _text(
            "The samples nearest to a training image come first. Far below 1 a generator copies, or draws less than "
            "digits vary (blur also lies near everything): the pairs tell which."
        )
        figure = figures.neighbours(self.study, question, kept)
        _figure(figure, f"{question.key}-neighbours", f"{question.text} Samples above their nearest training images")

    def overview(self) -> None:
        """Every arm of the study: scores, cost, and the trials that diverged or failed."""
        scores = tables.formatted(tables.overview_table(self.rows, self.arms))
        costs = tables.formatted_costs(tables.cost_table(self.rows, self.arms))
        _heading("arms", "Every arm")
        _text("#### Scores\n\n" + _shown(scores))
        _text("#### Cost of a trial\n\n" + tables.markdown(costs))
        lost = tables.failure_table(self.rows)
        if len(lost):
            _text("#### Trials that diverged or failed\n\n" + tables.markdown(lost))

    def provenance(self) -> None:
        """How the numbers were made."""
        box = tables.provenance(self.study, self.profile.name, self.store, self.rows)
        _heading("provenance", "How these numbers were made")
        _text(tables.markdown(box))

    def write_tables(self, folder: Path) -> None:
        """Every table as CSV (numbers) and LaTeX (as shown)."""
        _write(folder, "verdicts", tables.verdict_table(self.answers), tables.formatted_verdicts(self.answers))
        for question in self.study.questions:
            table = tables.question_table(self.study, question, self.rows)
            _write(folder, question.key, table, tables.formatted(table, question.metric))
        overview = tables.overview_table(self.rows, self.arms)
        _write(folder, "overview", overview, tables.formatted(overview))
        costs = tables.cost_table(self.rows, self.arms)
        _write(folder, "costs", costs, tables.formatted_costs(costs))
        self.rows.to_csv(folder / "results.csv", index=False)


class Summary:
    """What the summary notebook shows: every claim of the founding document, and every study's own, on one page."""

    def __init__(
        self, studies: Mapping[str, Study], claims: Mapping[str, Sequence[str]], profile: str, store: Store | str | Path
    ) -> None:
        """Load what the store holds of these studies.

        Args:
            studies: By name.
            claims: Each in words -> what tests it: "study/question", or "study/question/level" of a contrast.
            profile: At which profile.
            store: Where the results are.

        Raises:
            UserError: no such store, a profile that no study has, or one that the store holds no trial of.
        """
        plain = profile.partition("@")[0]
        self.studies = {name: s for name, s in studies.items() if plain in [p.name for p in s.profiles]}
        if not self.studies:
            raise unknown_name("profile", profile, dict.fromkeys(p.name for s in studies.values() for p in s.profiles))
        self.claims, self.profile = claims, profile
        self.store = store if isinstance(store, Store) else Store(store)
        ran = {plan["study"] for plan in self.store.read_plans() if plan["profile"] == profile}
        self.pages = {name: Page(study, profile, self.store) for name, study in self.studies.items() if name in ran}
        if not any(len(page.rows) for page in self.pages.values()):
            held = sorted({plan["profile"] for plan in self.store.read_plans()} - {profile})
            there = f"it has results of: {', '.join(held)}; name one with --profile" if held else "it has no results"
            raise UserError(f"{self.store.root} holds no trial of the profile {profile}; {there}")

    def introduction(self) -> None:
        """What this page is, and which studies have not run."""
        absent = [name for name in self.studies if name not in self.pages]
        at = next(iter(self.studies.values())).profile(self.profile)
        scope = _scope(at, max((page.seeds for page in self.pages.values()), default=at.seeds))
        _text(
            f"# {SUMMARY_TITLE}\n\nProfile **{self.profile}**: {scope}"
            + (f" **No results yet of: {', '.join(absent)}.** Nothing can be said of their claims." if absent else "")
        )

    def verdicts(self) -> None:
        """The founding document's claims, each with the verdicts of the questions that test it."""
        shown = self._claim_table()
        first = [references[0].split("/")[0] if references else "" for references in self.claims.values()]
        shown["claim"] = [_link(words, study) for words, study in zip(shown.claim, first, strict=True)]
        shown["effects [95%]"] = shown["effects [95%]"].str.replace("; ", "<br>")
        _heading("claims", "The document's claims")
        _text(_shown(shown) + "\n\n" + HOW_TO_READ)

    def details(self) -> None:
        """Each study: all its claims with their verdicts, or plainly that it has no results."""
        for name, study in self.studies.items():
            _heading(name, study.title)
            if name not in self.pages:
                _text(
                    f"**No results.** The study {name} never ran in this store at the profile {self.profile}: "
                    f"`make study-{name} PROFILE={self.profile}{tables.store_words(self.store, 'STORE=')}` runs it."
                )
                continue
            page = self.pages[name]
            page.cautions()
            smallest = [page.study.question(a.question).smallest_effect for a in page.answers]
            _figure(
                figures.claims(page.answers, smallest),
                f"{name}-claims",
                f"{study.title} Each claim's effect in units of the smallest effect of interest, with its interval",
            )
            said = "\n".join(f"- {a.sentence}" for a in page.answers)
            _text(f"{_tally(page.answers)} [↑ all claims](#claims)")
            _text(f"#### All answers of this study\n\n{_verdicts(page.study, page.answers)}{said}")

    def provenance(self) -> None:
        """How the numbers of each study were made."""
        _heading("provenance", "How these numbers were made")
        for name, page in self.pages.items():
            box = tables.provenance(page.study, self.profile, self.store, page.rows)
            _text(f"#### {name}\n\n{tables.markdown(box)}")
        plans = [self.store.read_plan(name, self.profile) or {} for name in self.pages]
        if len({plan.get("protocol_id") for plan in plans}) > 1:
            _text("> The studies were scored under different protocols: no score may be compared across them.")

    def write_tables(self, folder: Path) -> None:
        """The claims and all verdicts as CSV (numbers) and LaTeX (as shown)."""
        claims = self._claim_table()
        _write(folder, "claims", claims, claims)
        answers = [answer for page in self.pages.values() for answer in page.answers]
        of = [name for name, page in self.pages.items() for _ in page.answers]
        _write(folder, "verdicts", tables.verdict_table(answers).assign(study=of), tables.formatted_verdicts(answers))

    def _claim_table(self) -> pd.DataFrame:
        rows = []
        for words, references in self.claims.items():
            answers = [answer for reference in references for answer in self._answers(reference)]
            counts = {v: sum(a.verdict == v for a in answers) for v in figures.VERDICTS}
            found = [f"{n} {v}" for v, n in counts.items() if n]
            if not references:
                verdict = "not tested"
            elif not answers:
                verdict = "no results"
            else:
                verdict = next(v for v in counts if counts[v]) if len(found) == 1 else ", ".join(found)
            effects = [effect(a.effect, a.low, a.high, a.scale) if a.n else "–" for a in answers]
            if len(effects) > 1:
                effects = [f"{name} {text}" for name, text in zip(self._about(references), effects, strict=True)]
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

    def _about(self, references: Sequence[str]) -> list[str]:
        """Of each answer to these references, the network it is about, and the level where one is named."""
        return [
            ", ".join(
                [
                    self.studies[reference.split("/")[0]].question(answer.question).baseline,
                    *[answer.level] * bool(answer.level),
                ]
            )
            for reference in references
            for answer in self._answers(reference)
        ]

    def _answers(self, reference: str) -> list[Answer]:
        study, question, *level = reference.split("/", 2)
        if study not in self.pages:
            return []
        mine = [a for a in self.pages[study].answers if a.question == question]
        return [a for a in mine if not level or a.level == level[0]]


def render(study: Study, profile: str, store: Store, out: Path | None = None) -> list[Path]:
    """Execute the study's notebook and write HTML, Markdown, the executed notebook, CSV and LaTeX tables.

    Args:
        study: Whose report; its notebook is reports/<name>.ipynb, or the generic study.ipynb.
        profile: Which of its profiles.
        store: Where its results are.
        out: The folder to write; the store's report folder if left out. An earlier report there is replaced as a whole.

    Returns:
        What was written: HTML first.

    Raises:
        UserError: the study never ran here, its notebook fails, or `out` holds something else or cannot be written.
    """
    page, made_from = Page(study, profile, store), _made_from(study, profile, store)
    parameters = {"study": study.file or study.name, "profile": profile, "store": str(store.root)}
    out = out or store.layout.report_folder(study.name, profile)
    return _publish(_notebook(study), parameters, study.name, study.title, page, out, made_from)


def last_report(study: Study, profile: str, store: Store) -> list[Path]:
    """The report in the store, as `render` returns it; empty where anything that it was made from has changed since."""
    out = store.layout.report_folder(study.name, profile)
    stamp = out / MADE_FROM
    if not stamp.is_file() or stamp.read_text() != _made_from(study, profile, store):
        return []
    return _written(out, study.name)


def _notebook(study: Study) -> Path:
    own = NOTEBOOKS / f"{study.name}.ipynb"
    return own if own.exists() else NOTEBOOKS / "study.ipynb"


def _made_from(study: Study, profile: str, store: Store) -> str:
    """A digest of the study's results in the store and of the code that makes a report of them."""
    root = Path(__file__).parents[2]
    code = sorted(
        path for package in ("architectures", "harness", "studies") for path in root.glob(f"{package}/**/*.py")
    )
    digest = hashlib.sha256(results_checksum(store, study.name, profile).encode())
    for path in (*code, _notebook(study)):
        digest.update(path.read_bytes())
    if study.own_code:
        digest.update(study.own_code.digest.encode())
    return digest.hexdigest()


def _written(out: Path, name: str) -> list[Path]:
    """The files of a report, HTML first."""
    return [out / f"{name}{end}" for end in (".html", ".md", ".ipynb")] + sorted(
        [*out.glob("*.csv"), *out.glob("*.tex")]
    )


def render_summary(
    studies: Mapping[str, Study],
    claims: Mapping[str, Sequence[str]],
    profile: str,
    store: Store,
    out: Path | None = None,
) -> list[Path]:
    """The same for the summary; reports/summary.ipynb takes studies and claims from the package `studies`."""
    page = Summary(studies, claims, profile, store)
    parameters = {"profile": profile, "store": str(store.root)}
    out = out or store.layout.report_folder("summary", profile)
    return _publish(NOTEBOOKS / "summary.ipynb", parameters, "summary", SUMMARY_TITLE, page, out)


def _publish(
    source: Path,
    parameters: dict[str, str],
    name: str,
    title: str,
    page: Page | Summary,
    out: Path,
    made_from: str = "",
) -> list[Path]:
    """Make the report in a folder aside, then put it in place whole."""
    out = out.resolve()
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / f"{name}.html").exists())):
        raise UserError(f"{out} holds something other than a report of {name}; name an empty or new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write a report to {out.parent}: {error.strerror}; name another folder") from None
    try:
        staging.chmod(0o777 & ~_umask())
        _execute(source, staging / f"{name}.ipynb", parameters)
        _export(staging / f"{name}.ipynb", name, title)
        page.write_tables(staging)
        if made_from:
            (staging / MADE_FROM).write_text(made_from)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _written(out, name)


def _write(folder: Path, name: str, numbers: pd.DataFrame, shown: pd.DataFrame) -> None:
    numbers.to_csv(folder / f"{name}.csv", index=False)
    (folder / f"{name}.tex").write_text(tables.latex(shown), encoding="utf-8")


def _execute(source: Path, target: Path, parameters: dict[str, str]) -> None:
    """Run the notebook in a kernel of this very interpreter, whatever kernels are installed on the machine."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="report-") as scratch:
        import nbformat
        import papermill
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_core.utils import ensure_event_loop
        from nbformat import NotebookNode
        from papermill.exceptions import PapermillExecutionError

        places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
        spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "--log-level=CRITICAL", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            metadata={"supported_encryption": "curve"},
            env={
                **dict.fromkeys(places, scratch),  # Jupyter's own files are thrown away, not left in the user's home
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else its debugger remarks on every start
            },
        )

        class OwnKernel(AsyncKernelManager):
            @property
            def kernel_spec(self) -> KernelSpec:
                return spec

        def execute() -> NotebookNode:
            with closing(ensure_event_loop()):  # which Jupyter's libraries would leave open
                return papermill.execute_notebook(
                    source,
                    None,
                    parameters=parameters,
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    kernel_manager_class=OwnKernel,
                    iopub_timeout=300,  # a busy machine may take longer over a picture than the 4 s that are usual
                    resources={"metadata": {"path": str(source.parent)}},
                )

        with ThreadPoolExecutor(1) as thread:  # in the main one, nbclient would take signals for itself
            work = thread.submit(execute)
            try:
                notebook = work.result()
            except PapermillExecutionError as error:
                raise UserError(f"the notebook {source.name} failed: {error.ename}: {error.evalue}") from None
            except KeyboardInterrupt:
                logging.disable()  # Jupyter's libraries have much to say about a kernel that is killed
                while not work.done():  # it ends when its kernel is gone, which may not even be there yet
                    _kill_kernel()
                    wait([work], timeout=0.2)
                raise
        for name in ("input_path", "output_path"):  # a report says nothing of the machine's folders
            notebook.metadata.papermill.pop(name, None)
        nbformat.write(notebook, target)


def _kill_kernel() -> None:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended by itself
            if "ipykernel_launcher" in child.cmdline():
                child.kill()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Jupyter's libraries say about themselves and each other; errors still come through."""
    logger = logging.getLogger("papermill")
    level = logger.level
    with warnings.catch_warnings():
        for module in ("jupyter", "nbclient", "nbconvert", "papermill", "traitlets", "zmq", "tornado"):
            for category in (DeprecationWarning, ResourceWarning, RuntimeWarning):
                warnings.filterwarnings("ignore", category=category, module=rf"{module}.*")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _export(path: Path, name: str, title: str) -> None:
    """The executed notebook's outputs as one stand-alone HTML file, and as Markdown with its pictures; without code."""
    with _quiet():
        import nbformat
        from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

        notebook = nbformat.read(path, as_version=4)
        to_html = MarkdownWithMath(renderer=IPythonRenderer(escape=False, exclude_anchor_links=True)).render
    (path.parent / "pictures").mkdir()
    body, text = [], []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        if "image/png" in data:
            file, alt = output.metadata["filename"], output.metadata["image/png"]["alt"]
            (path.parent / "pictures" / file).write_bytes(base64.b64decode(data["image/png"]))
            body.append(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data["image/png"].strip()}">')
            text.append(f"![{alt}](pictures/{file})")
        elif "text/markdown" in data:
            body.append(to_html(data["text/markdown"]))
            text.append(data["text/markdown"])
    path.with_name(f"{name}.html").write_text(layout.page(title, "\n".join(body)), encoding="utf-8")
    markdown = re.sub(r"\n{3,}", "\n\n", "\n\n".join(text)).strip()
    path.with_name(f"{name}.md").write_text(markdown + "\n", encoding="utf-8")


def _scope(profile: Profile, seeds: int) -> str:
    """What answers are about: data, budget, seeds. A baseline may have a budget of its own."""
    data, kimg = profile.changes.get("dataset"), profile.changes.get("kimg")
    seen = ("images" if kimg is None else f"{kimg:g} thousand images") + (f" of {data}" if data else "")
    return (
        f"networks that see {seen}, {count(seeds, 'training seed')} an arm. What is refuted "
        "here is refuted for these, not for every GAN, and what takes longer training cannot show."
    )


def _text(markdown: str) -> None:
    display(Markdown(markdown))


def _figure(figure: Figure | None, name: str, alt: str) -> None:
    if figure is not None:
        metadata = {"filename": f"{name}.png", "image/png": {"alt": alt}}
        picture = base64.b64encode(figures.as_png(figure)).decode()
        display({"image/png": picture, "text/plain": alt}, metadata=metadata, raw=True)


def _heading(name: str, text: str) -> None:
    """A heading of the second level that links can name; the anchor works in HTML and where Markdown is shown."""
    _text(f'<a id="{name}"></a>\n\n## {text}')


def _link(text: str, name: str) -> str:
    """Text that leads to the heading of that name; text alone without one."""
    return "[{}](#{})".format(re.sub(r"([\[\]])", r"\\\1", text), name) if name else text


def _shown(table: pd.DataFrame) -> str:
    """A formatted table in Markdown, and why intervals are missing where they are."""
    lacking = table.map(lambda cell: "[–]" in str(cell)).any(axis=None)
    return tables.markdown(table) + (NO_INTERVAL if lacking else "")


def _tally(answers: Sequence[Answer]) -> str:
    """How many claims came out how: "Of 14 claims, 5 are supported, 4 refuted and 5 unresolved."."""
    if not answers:
        return "*No claim could be tested yet.*"
    counts = [f"{sum(a.verdict == v for a in answers)} {v}" for v in figures.VERDICTS]
    return f"{count(len(answers), 'claim')}: {', '.join(counts)}."


def _verdicts(study: Study, answers: Sequence[Answer], *, linked: bool = False) -> str:
    """The table of verdicts in Markdown, and what its p values are of; `linked` to the sections of their questions."""
    if not answers:
        return ""
    shown = tables.formatted_verdicts(answers)
    if linked:
        shown["claim"] = [_link(a.claim, a.question) for a in answers]
    reach = {a.n: a.smallest_p for a in answers if a.n}
    least = ", ".join(f"{p_value(p)} with {count(n, 'seed')}" for n, p in sorted(reach.items()))
    note = ""
    mostly = "an anytime-valid t test" if any("anytime" in a.method for a in answers) else "Student's t"
    if least:
        note = (
            f"\n\n*p is that of the verdict's test, mostly {mostly} of paired differences, which uses their sizes. The "
            "exact p beside it is of a test that flips their signs only: it assumes less, and can come no lower than "
            f"{least}.*"
        )
    if any(study.question(a.question).expected == "equal" for a in answers):
        note += (
            "\n\n*Of a claim that something is the same, p is of the test that the difference is smaller than the "
            "smallest effect of interest: a small p shows that it is, and p = 1 only that this is not shown.*"
        )
    return _shown(shown) + note + "\n\n"


def _needed(answers: Sequence[Answer]) -> str:
    """Seeds that would settle the open ones among these answers, as far as a number is known."""
    still = [a for a in answers if a.verdict == "unresolved"]
    known = [a.seeds_needed for a in still if a.seeds_needed is not None]
    if not answers or (still and all(a.problem for a in still)):
        return "–"
    if not still:
        return "settled"
    return f"{max(known)}" + (" or more" if len(known) < len(still) else "") if known else f"> {MOST_SEEDS}"


def _pairing_note(table: pd.DataFrame) -> str:
    if "seed_correlation" not in table or table.seed_correlation.dropna().empty:
        return ""
    shown = ", ".join(
        f"{r.level}: {r.seed_correlation:+.2f}".replace(": -", ": −")
        for r in table.dropna(subset="seed_correlation").itertuples()
    )
    return (
        f"\n\n*Correlation over seeds with the baseline: {shown}. Above +{table.pairing_pays_above.max():.2f}, pairing "
        "by seed made the interval narrower than it would be unpaired.*"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


NO_INTERVAL = (
    f"\n\n*[–]: no interval. Fewer than {FEWEST_FOR_AN_INTERVAL} seeds say too little of how much seeds differ (a 95% "
    "interval from two would be 9 standard deviations wide either way), and a mean at a bound of its metric has none.*"
)

SUMMARY_TITLE = "What the founding document claims, and what came out"

HOW_TO_READ = """#### How to read this

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
