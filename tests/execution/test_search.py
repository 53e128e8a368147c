"""Searches: what is run, what is chosen, and that an interrupted one comes to the same."""

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness import cli
from harness.analysis.evidence import load_evidence
from harness.analysis.tuned import chosen, failed_for_good, found
from harness.errors import UserError
from harness.execution import search as searching
from harness.execution import sequential
from harness.execution.plan import make_plan
from harness.execution.search import run_tuned, with_chosen
from harness.reporting.provenance import warnings
from harness.reporting.study_page import study_page
from harness.reporting.terminal import study_for_terminal
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Choice, LogUniform, Study, Tuning
from studies.aa import AA
from studies.architecture import ARCHITECTURE
from studies.catalog import CATALOG
from tests.published import PROTOCOL, REAL

RATES = {"generator_lr": LogUniform(1e-4, 1e-2)}
BEST = 2e-3  # G's rate at which a made-up trial scores best


def tuned(**changes) -> Study:
    questions = ARCHITECTURE.questions[:1]
    baselines = {name: ARCHITECTURE.baselines[name] for name in ("fc", "dc")}
    smoke = replace(ARCHITECTURE.profile("smoke"), baselines={})
    study = replace(ARCHITECTURE, name="small", questions=questions, baselines=baselines, profiles=(smoke,))
    return study.tuned(Tuning(fields=RATES, **changes))


def made_up_fid(spec: TrialSpec) -> float:
    return 100 * math.exp(math.log10(spec.generator_lr / BEST) ** 2)


class MadeUp:
    """Stands for `run_study`: every trial ends at once, with a made-up FID; after `stop` trials the run is cut off."""

    def __init__(self, stop: float = math.inf) -> None:
        self.trials, self.stop = [], stop

    def __call__(self, study, profile, seeds, store, workers, say, cluster, **_) -> bool:
        plan = make_plan(study, profile, seeds, store)
        fingerprints = {spec.data_fingerprint for spec in plan.specs.values()}
        record = plan.record(dict.fromkeys(fingerprints, PROTOCOL.protocol_id), store.stored_name, sequential=False)
        store.write_plan(study.name, profile, record)
        store.write_reference(PROTOCOL, REAL)
        for run in plan.pending():
            if len(self.trials) >= self.stop:
                raise KeyboardInterrupt
            self.trials.append((study.name, run.arm, run.seed))
            store.write(self.result(run.spec))
        return all(store.status(trial_id) != "failed" for trial_id in plan.trials)

    def result(self, spec: TrialSpec) -> TrialResult:
        diverged = spec.generator_lr > 8e-3
        outcome = {"status": "diverged"} if diverged else {"status": "ok", "protocol": PROTOCOL}
        scores = {} if diverged else {"fid": made_up_fid(spec)}
        return TrialResult(spec=spec, scores=scores, cost={"cpu_seconds": 2.0, "seconds": 2.0}, **outcome)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


def run(study: Study, store: Store, patch: pytest.MonkeyPatch, stop: float = math.inf, seeds: int = 3) -> MadeUp:
    made_up = MadeUp(stop)
    patch.setattr(searching, "run_study", made_up)
    run_tuned(study, "smoke", seeds, store, 1, lambda line: None)
    return made_up


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_each_seed_takes_its_best_candidate(searcher, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned(searcher=searcher, trials=6)
    ran = run(study, store, monkeypatch)
    of_search = sum(name == "small-tuned-search" for name, _, _ in ran.trials)
    assert of_search in (35, 36), "two candidates may be drawn alike"
    assert [name for name, _, _ in ran.trials[of_search:]] == ["small-tuned"] * 6, "after the search"
    candidates = found(store, study.at("smoke"))
    for arm, by_seed in candidates.items():
        for seed, ones in by_seed.items():
            assert [one.number for one in ones] == list(range(6))
            took = with_chosen(study, "smoke", store).chosen[arm][seed]
            assert took == min(ones, key=lambda one: one.fid).values, (arm, seed)
    plan = store.read_plan("small-tuned", "smoke")
    assert plan is not None and plan["chosen"] == chosen(store, study.at("smoke"))
    cells = {(cell["arm"], cell["seed"]): store.read_spec(cell["trial_id"]) for cell in plan["cells"]}
    assert all(spec.generator_lr == plan["chosen"][arm][seed]["generator_lr"] for (arm, seed), spec in cells.items())
    assert all(spec.seed == seed for (_, seed), spec in cells.items())


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_an_interrupted_search_comes_to_the_same(searcher, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned(searcher=searcher, trials=6)
    whole, cut = (Store(tmp_path / name, create=True) for name in "ab")
    run(study, whole, monkeypatch)
    for stop in (5, 20, 1):
        with pytest.raises(KeyboardInterrupt):
            run(study, cut, monkeypatch, stop)
    run(study, cut, monkeypatch)
    assert sorted(cut.trial_ids()) == sorted(whole.trial_ids())
    assert cut.read_plan("small-tuned", "smoke") == whole.read_plan("small-tuned", "smoke")


def test_more_seeds_leave_the_first_choices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned()
    run(study, store, monkeypatch, seeds=2)
    before = with_chosen(study, "smoke", store).chosen
    ran = run(study, store, monkeypatch, seeds=3)
    assert {seed for _, _, seed in ran.trials} == {2}
    after = with_chosen(study, "smoke", store).chosen
    assert {arm: found[:2] for arm, found in after.items()} == before


def test_what_diverged_is_not_chosen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned(trials=8)
    run(study, store, monkeypatch)
    candidates = [
        one for by_seed in found(store, study.at("smoke")).values() for ones in by_seed.values() for one in ones
    ]
    assert any(math.isinf(one.fid) for one in candidates), "the test needs one that diverged"
    assert all(
        values["generator_lr"] <= 8e-3
        for by_seed in with_chosen(study, "smoke", store).chosen.values()
        for values in by_seed
    )


def test_a_plan_adds_search_and_verdicts_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "architecture-tuned", "--profile", "smoke", "--workers", "3", "--store", str(tmp_path / "none")]
    cli.app(words, obj=CATALOG, standalone_mode=False)
    told = capsys.readouterr().out
    search, verdicts = map(int, re.findall(r"about (\d+) s with 3 trials at once", told))
    assert told.splitlines()[-1].startswith("search and verdicts together: about ")
    assert abs(int(told.split()[-2]) - search - verdicts) <= 1


def test_rounds_say_the_same_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told, made_up = list[str](), MadeUp()

    def saying(*words, **more) -> bool:
        words[5]("how good the classifier is")
        return made_up(*words, **more)

    monkeypatch.setattr(searching, "run_study", saying)
    run_tuned(tuned(searcher="optuna", trials=6), "smoke", 3, store, 1, told.append)
    assert told.count("how good the classifier is") == 1


def test_equal_arms_search_at_seeds_of_their_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = replace(AA, profiles=AA.profiles[:1]).tuned(Tuning(fields=RATES))
    run(study, store, monkeypatch)
    plan = store.read_plan("aa-tuned-search", "smoke")
    assert plan is not None
    seeds = {cell["arm"]: store.read_spec(cell["trial_id"]).seed for cell in plan["cells"] if cell["seed"] == 0}
    assert seeds["dc / 1"] == 1_000_000 and seeds["dc seeds from 1000 / 1"] == 1_001_000


def test_the_page_shows_search_and_untuned_verdicts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned()
    run(study, store, monkeypatch, seeds=6)
    page = study_page(load_evidence(store, study, "smoke"))
    assert "untuned" not in page.tables
    table = page.tables["tuning"].numbers
    assert len(table) == 2 * 6 and (table.fid_chosen <= table.fid_declared).all()
    assert table.compute_seconds.isin([3 * 2.0, 4 * 2.0]).all(), "two candidates may be drawn alike"
    assert "tuning" in [section.name for section in page.sections]
    plain = replace(study, name="small", tuning=None, untuned="")
    run(plain, store, monkeypatch, seeds=6)
    evidence = load_evidence(store, study, "smoke")
    beside = study_page(evidence).tables["untuned"].numbers
    assert len(beside) == 1 and beside.effect[0] != beside.effect_untuned[0]
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(*study_for_terminal(evidence, width=200, lines=99, full=True), sep="\n")
    assert "kept as declared" in capture.get() and "effect, without tuning [95%]" in capture.get()


def test_optuna_draws_by_earlier_scores(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the best rate is elsewhere, its first round is the same and its second another."""
    rates = []
    for best in (2e-4, 5e-3):
        monkeypatch.setattr(f"{__name__}.BEST", best)
        store, study = Store(tmp_path / str(best), create=True), tuned(searcher="optuna", trials=8)
        run(study, store, monkeypatch, seeds=1)
        candidates = found(store, study.at("smoke"))["fc"][0]
        rates.append([one.values["generator_lr"] for one in candidates])
    assert rates[0][:4] == rates[1][:4]
    assert rates[0][4:] != rates[1][4:]


def test_more_seeds_are_priced_as_chosen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a batch, what is left is its next seeds, not all of those that are there."""
    study, clock, told = tuned(trials=12), [0.0], []
    monkeypatch.setattr(sequential.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(f"{__name__}.BEST", 1e-2)  # no arm is kept as it is declared
    monkeypatch.setattr(searching, "run_study", MadeUp())
    monkeypatch.setattr(sequential, "arms_open", lambda design, answers: set(design.every_arm))

    def then_late(*args, **kwargs) -> bool:
        clock[0] = 999.0
        return run_tuned(*args, **kwargs)

    monkeypatch.setattr(sequential, "run_tuned", then_late)
    assert sequential.run_until_answered(study, "smoke", store, 1, told.append, budget_seconds=1000)
    assert "stopped: the budget is spent" in told[-1]
    plan = store.read_plan("small-tuned", "smoke")
    assert plan is not None and len(plan["cells"]) == 12


def test_another_run_with_fewer_seeds_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later seeds would be trained as declared, and stand in the verdict as tuned."""
    study, made_up = tuned(), MadeUp()

    def disturbed(search: Study, *args, **kwargs) -> bool:
        made_up(search, *args, **kwargs)
        return made_up(*_fewer(study), *args[2:], **kwargs)

    monkeypatch.setattr(searching, "run_study", disturbed)
    with pytest.raises(UserError, match="another run changed the search of small-tuned meanwhile"):
        run_tuned(study, "smoke", 3, store, 1, lambda line: None)
    assert store.read_plan("small-tuned", "smoke") is None


def _fewer(study: Study) -> tuple:
    search, wanted = searching.first_round(study, "smoke", 2)
    return search, "smoke", wanted


def test_a_first_search_that_failed_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "run_study", lambda *_, **__: False)
    with pytest.raises(UserError, match="the search of small-tuned is not complete; .* tries what failed again"):
        run_tuned(tuned(), "smoke", 3, store, 1, lambda line: None)


class Failing(MadeUp):
    """As `MadeUp`, but that trials with so many updates of G or more end with this error, until it is mended."""

    def __init__(self, error: str, steps: int = 5, **provenance: str) -> None:
        super().__init__()
        self.error, self.steps, self.provenance = error, steps, provenance

    def result(self, spec: TrialSpec) -> TrialResult:
        if not self.error or spec.generator_steps < self.steps:
            return super().result(spec)
        error = f"{self.error}, {len(self.trials)} trials later"
        return TrialResult(spec=spec, status="failed", error=error, provenance=self.provenance)


STEPS = {"generator_steps": Choice((1, 5))}
RAISED = "ValueError: no room for 5 steps"


def test_what_fails_for_good_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study, failing, told = replace(tuned(), tuning=Tuning(fields=STEPS)), Failing(RAISED, traceback="."), list[str]()
    monkeypatch.setattr(searching, "run_study", failing)
    with pytest.raises(UserError, match="the search of small-tuned is not complete; .* tries what failed again"):
        run_tuned(study, "smoke", 6, store, 1, told.append)
    assert not told and run_tuned(study, "smoke", 6, store, 1, told.append)
    assert told[0].startswith("not chosen, as it failed twice alike: fc / ") and "ValueError: no room for" in told[0]
    plan = store.read_plan("small-tuned", "smoke")
    assert plan is not None and {v["generator_steps"] for ones in plan["chosen"].values() for v in ones} == {1}
    page = study_page(load_evidence(store, study, "smoke"))
    text = next(section for section in page.sections if section.name == "tuning").blocks
    assert any("failed twice with the same error" in str(block) for block in text)
    failing.error = ""  # it was the machine after all: what is there now is chosen from
    assert run_tuned(study, "smoke", 6, store, 1, told.append)
    assert not failed_for_good(found(store, study.at("smoke")))


@pytest.mark.parametrize(
    "failing",
    [
        Failing("its worker died 3 times"),
        Failing("OSError: [Errno 28] No space left on device", traceback="."),
        Failing("ConnectionResetError: by peer", traceback="."),
        Failing("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", traceback="."),
        Failing(RAISED, steps=1, traceback="."),  # by every candidate
    ],
)
def test_the_machines_faults_hold_a_search(failing: Failing, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "run_study", failing)
    for _ in range(3):
        with pytest.raises(UserError, match="the search of small-tuned is not complete"):
            run_tuned(replace(tuned(), tuning=Tuning(fields=STEPS)), "smoke", 6, store, 1, lambda line: None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_flip_rate": LogUniform(0.1, 0.9)}, "with label_flip_rate=0.9: label_flip_rate=0.9 is out of range"),
        ({"generator_steps": Choice((1, 1000))}, "generator_steps=1000 is out of range; allowed: from 1 to 100"),
        (
            {"update_rule": Choice(("simultaneous", "alternating")), "fresh_latents": Choice((False, True))},
            "with update_rule=simultaneous, fresh_latents=True: fresh_latents=True is for a G that",
        ),
    ],
)
def test_impossible_draws_are_refused_beforehand(fields, message) -> None:
    """Whether or not a candidate of the first seeds draws them."""
    study = replace(tuned(), tuning=Tuning(fields=fields))
    with pytest.raises(UserError, match=message):
        searching.first_round(study, "smoke", 1)


def test_a_report_outlives_a_change_of_tuning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tuned(trials=8)
    run(study, store, monkeypatch, seeds=6)
    others = replace(study, tuning=Tuning(fields={"discriminator_lr": LogUniform(1e-4, 1e-2)}))
    assert "tuning" not in study_page(load_evidence(store, others, "smoke")).tables
    whole, fewer = (
        study_page(load_evidence(store, one, "smoke")).tables["tuning"].numbers
        for one in (study, replace(study, tuning=Tuning(fields=RATES, trials=2)))
    )
    assert (whole.declared_was_best == fewer.declared_was_best).all() and not whole.declared_was_best.all()
    assert ((fewer.fid_chosen == whole.fid_chosen) | fewer.fid_chosen.isna()).all()
    told = "The tuning was declared otherwise when it ran"
    for one, warned in ((study, False), (others, True), (tuned(trials=2), True), (tuned(trials=9), True)):
        found = warnings(load_evidence(store, one, "smoke"))
        assert any(line.startswith(told) for line in found) == warned


def test_scores_that_the_untuned_study_lacks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BEST", 1e-2)  # no arm is kept as it is declared, so that none of its trials is
    study = tuned(trials=12)
    run(study, store, monkeypatch, seeds=6)
    run(replace(study, name="small", tuning=None, untuned=""), store, monkeypatch, seeds=6)
    other = replace(PROTOCOL, extractor="inception-v3")
    store.write_reference(other, REAL)
    for cell in (store.read_plan("small-tuned", "smoke") or {})["cells"]:
        store.add_scores(cell["trial_id"], other, {"fid": 50.0 + cell["seed"]})
    assert load_evidence(store, study, "smoke").untuned is not None
    assert load_evidence(store, study, "smoke", other.protocol_id).untuned is None


def test_candidates_drawn_alike_cost_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = replace(tuned(), tuning=Tuning(fields={"generator_steps": Choice((1, 2))}))
    run(study, store, monkeypatch, seeds=6)
    plan = store.read_plan("small-tuned-search", "smoke")
    assert plan is not None and len(plan["cells"]) == 2 * 6 * 4
    trials = {cell["trial_id"] for cell in plan["cells"]}
    cost = study_page(load_evidence(store, study, "smoke")).tables["tuning"].numbers.compute_seconds
    assert cost.sum() == 2.0 * len(trials) < 2.0 * len(plan["cells"])
