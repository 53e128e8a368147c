"""A study that is tuned: at every seed, each arm's candidates are trained before the trial that its verdict is from.

A search is a study of its own, NAME-search, that asks nothing: its trials are planned, run, resumed, scored and stored
like any others. What is chosen follows from their scores alone, so that a search that was interrupted, or is run again
elsewhere, comes to the same.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from harness.analysis.tuned import Candidate, chosen, failed_for_good, found
from harness.design import DEFAULTS, Design, Seeds
from harness.errors import UserError, refused_of
from harness.execution.cluster import HERE, Cluster
from harness.execution.run_study import Say, run_study
from harness.questions import Changes, Value, written
from harness.spec import TrialSpec
from harness.storage.store import Store
from harness.study import Study
from harness.tuning import LogUniform, Range, Tuning, candidate_name, search_name

ROUND = 4
"""Candidates that Optuna draws at once, by what those of earlier rounds scored."""

FAILURES_SHOWN = 5
"""Candidates that are told by name."""

SCORE = "log FID"
LEAST_FID, WORST_FID = 1e-9, 1e9
"""What an FID of 0, and a trial that diverged, are told as: its sampler goes by the order of scores."""


Candidates: TypeAlias = dict[str, list[list[Changes]]]
"""Arm -> candidate -> seed -> what it sets."""


def run_tuned(
    study: Study,
    profile_name: str,
    seeds: Seeds,
    store: Store,
    workers: int | None,
    say: Say,
    cluster: Cluster = HERE,
    *,
    sequential: bool = False,
    extractor_weights: Path | None = None,
) -> bool:
    """Run what the store lacks of a study, and before it what it lacks of its search; without tuning, `run_study`.

    Args: as for `run_study`. True if no trial failed, but for candidates that failed for good: they are passed over,
    and tried again by each run.

    Raises:
        UserError: a candidate is refused, Optuna is asked for and not installed, trials of the first search failed,
            another run changed the search meanwhile, or what `run_study` raises.
    """
    common = (store, workers, _once(say) if study.tuning else say, cluster)
    if study.tuning is not None:
        design = study.at(profile_name)
        for candidates in _rounds(design, study.tuning, seeds, store):
            search, wanted = search_study(study, profile_name, candidates), _seeds_of(candidates)
            complete = run_study(search, profile_name, wanted, *common, extractor_weights=extractor_weights)
            if not complete and not _tell_failures(found(store, design), say):
                line = f"the search of {study.name} is not complete; its study waits for it"
                if store.read_plan(study.name, design.profile.name) is None:  # there is nothing to report yet
                    raise UserError(f"{line}, and the same command tries what failed again")
                say(line)
                return False
        study = with_chosen(study, profile_name, store)
        _require_whole(study.name, [(len(study.chosen.get(a, ())), n) for a, n in design.seeds_of(seeds).items()])
    return run_study(study, profile_name, seeds, *common, sequential=sequential, extractor_weights=extractor_weights)


def _once(say: Say) -> Say:
    """Says each line once: the rounds of a search and its study are scored by the same networks."""
    said = set[str]()

    def say_new(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return say_new


def _tell_failures(found: Mapping[str, Mapping[int, Sequence[Candidate]]], say: Say) -> bool:
    """Say which candidates failed for good. False if something else is missing, or no candidate of a search ended."""
    searches = [candidates for by_seed in found.values() for candidates in by_seed.values()]
    lines = failed_for_good(found)
    for line in lines[:FAILURES_SHOWN]:
        say(f"not chosen, as it failed twice alike: {line}")
    if (more := len(lines) - FAILURES_SHOWN) > 0:
        say(f"and {more} more candidates failed twice alike")
    ended = all(any(not one.failed_for_good for one in candidates) for candidates in searches)
    return bool(lines) and ended and not any(math.isnan(one.fid) for candidates in searches for one in candidates)


def with_chosen(study: Study, profile_name: str, store: Store | None) -> Study:
    """The study with what its searches in this store have chosen so far; as it is declared where they have not."""
    if study.tuning is None or store is None:
        return study
    return replace(study, chosen=chosen(store, study.at(profile_name)))


def first_round(study: Study, profile_name: str, seeds: Seeds) -> tuple[Study, Seeds]:
    """The search as far as it is known before anything has run, and its seeds.

    All of it where it is random, else Optuna's first candidates.
    """
    assert study.tuning is not None
    candidates = next(_rounds(study.at(profile_name), study.tuning, seeds, None))
    return search_study(study, profile_name, candidates), _seeds_of(candidates)


def search_study(study: Study, profile_name: str, candidates: Candidates) -> Study:
    """The search as a study that asks nothing: an arm for each candidate of each arm."""
    assert study.tuning is not None
    design, first = study.at(profile_name), study.tuning.first_seed
    named = {
        candidate_name(name, number): (design.every_arm[name], by_seed)
        for name, all_of_arm in candidates.items()
        for number, by_seed in enumerate(all_of_arm)
    }
    return Study(
        name=search_name(study.name),
        title=f"The search of {study.name}",
        baselines={name: {**arm.values, "seed": first + arm.first_seed} for name, (arm, _) in named.items()},
        questions=(),
        profiles=(replace(design.profile, baselines={}, factors={}),),
        own_code=study.own_code,
        scores_untrained=False,
        chosen={name: by_seed for name, (_, by_seed) in named.items()},
    )


def _seeds_of(candidates: Candidates) -> dict[str, int]:
    """How many seeds each candidate's arm of the search has."""
    return {candidate_name(arm, n): len(one) for arm, ones in candidates.items() for n, one in enumerate(ones)}


def _rounds(design: Design, tuning: Tuning, seeds: Seeds, store: Store | None) -> Iterator[Candidates]:
    """All candidates so far, round by round; the caller runs each round before it asks for the next."""
    _require_possible(design, tuning)
    wanted = design.seeds_of(seeds)
    if tuning.searcher == "random":
        yield {
            arm: [[{}] * n, *([tuning.drawn(seed, c) for seed in range(n)] for c in range(1, tuning.trials))]
            for arm, n in wanted.items()
        }
        return
    for end in range(ROUND, tuning.trials + ROUND, ROUND):
        so_far = found(store, design) if store is not None and end > ROUND else {}
        drawn: Candidates = {}
        for arm, n in wanted.items():
            told = [[one.fid for one in so_far.get(arm, {}).get(seed, [])] for seed in range(n)]
            if store is not None:
                _require_whole(design.name, [(len(fids), end - ROUND) for fids in told])
            by_seed = [_by_optuna(tuning, seed, told[seed], min(end, tuning.trials)) for seed in range(n)]
            drawn[arm] = [list(candidate) for candidate in zip(*by_seed, strict=True)]
        yield drawn


def _require_possible(design: Design, tuning: Tuning) -> None:
    """Refuse what a search could come to set, and an arm cannot be: before work starts, whenever it would be drawn."""
    for name, arm in design.every_arm.items():
        values = {**DEFAULTS, **arm.values, **design.profile.changes, "data_fingerprint": "0" * 16}
        values |= {"code": "0" * 16} if design.own_code else {}
        for changes in tuning.combinations():
            what = ", ".join(f"{field}={written(value)}" for field, value in changes.items())
            with refused_of(f"arm {name!r} cannot be searched over with {what}"):
                TrialSpec.from_dict({**values, **changes})


def _require_whole(study: str, numbers: Iterable[tuple[int, int]]) -> None:
    """Refuse to go on from less than was run: another process may have planned the same search with fewer seeds."""
    if any(there < wanted for there, wanted in numbers):
        raise UserError(f"another run changed the search of {study} meanwhile; let it end, and run this again")


def _by_optuna(tuning: Tuning, seed: int, fids: Sequence[float], number: int) -> list[Changes]:
    """An arm's first candidates at a seed: as it is declared, then what Optuna draws, told of scores by rounds.

    Drawn anew from the first one, so that the same scores lead to the same candidates, whenever they are asked for.

    Args:
        tuning: Of the study.
        seed: Counted from 0.
        fids: Of the candidates of the rounds before, the declared one's too; inf where one diverged.
        number: How many candidates.
    """
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError:
        raise UserError("searcher='optuna' needs the package optuna: pip install 'gan-ablation[tuning]'") from None
    from ray import tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {
        name: tune.loguniform(one.low, one.high) if isinstance(one, LogUniform) else tune.choice(list(one.values))
        for name, one in tuning.fields.items()
    }
    sampler = optuna.samplers.TPESampler(seed=tuning.first_seed + seed, n_startup_trials=ROUND - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it deprecates of its own
        search = OptunaSearch(OptunaSearch.convert_search_space(space), sampler=sampler, metric=SCORE, mode="min")
        drawn = list[Changes]([{}])
        for candidate in range(1, number):
            if candidate % ROUND == 0:
                for before in range(max(1, candidate - ROUND), candidate):
                    fid = min(max(fids[before], LEAST_FID), WORST_FID)
                    search.on_trial_complete(str(before), {SCORE: math.log(fid)})
            values = search.suggest(str(candidate))
            assert isinstance(values, dict)
            drawn.append({name: _rounded(tuning.fields[name], values[name]) for name in tuning.fields})
    return drawn


def _rounded(one: Range, value: Value) -> Value:
    return one.rounded(float(value)) if isinstance(one, LogUniform) else value
