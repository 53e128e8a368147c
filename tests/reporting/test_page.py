"""What a study's page and the summary say of made-up results."""

import dataclasses
import math
import re
import shlex
import shutil
from pathlib import Path

import pytest

from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.results import load
from harness.errors import UserError
from harness.plugins import UserCode
from harness.reporting import provenance
from harness.reporting.blocks import Page, flat
from harness.reporting.study_page import scope, study_page
from harness.reporting.summary_page import summary_page
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Study
from studies import STUDIES
from studies.claims import CLAIMS
from tests.analysis.conftest import PROFILE, make_protocol, with_reference


def shown_by(evidence: Evidence, *keys: str) -> str:
    """All text of a study's page, and the names of its pictures; with keys, as if it asked these questions only."""
    asked = tuple(question for question in evidence.design.questions if not keys or question.key in keys)
    page = study_page(dataclasses.replace(evidence, design=dataclasses.replace(evidence.design, questions=asked)))
    return text_of(page)


def text_of(page: Page) -> str:
    parts = flat([page.head, *page.sections])
    return "\n".join(part if isinstance(part, str) else part.name for part in parts)


def test_a_page_of_nothing_is_sentences(store: Store, study: Study, tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty", create=True)
    empty.write_plan(study.name, PROFILE, store.read_plan(study.name, PROFILE) or {})
    text = shown_by(load_evidence(empty, study, PROFILE))
    assert "No trial has finished: there is nothing to compare." in text
    assert text.count("so there is no effect to draw") == len(study.questions)
    assert "nan" not in text.lower().replace("provenance", "") and ".png" not in text and "-effects" not in text


def test_a_store_of_failed_trials_only_is_sentences(store: Store, study: Study, tmp_path: Path) -> None:
    failed = Store(tmp_path / "failed", create=True)
    for cell in (store.read_plan(study.name, PROFILE) or {})["cells"]:
        if cell["trial_id"] in store.trial_ids():
            spec = store.read_spec(cell["trial_id"])
            failed.write(TrialResult(spec=spec, status="failed", error="worker lost"))
    failed.write_plan(study.name, PROFILE, store.read_plan(study.name, PROFILE) or {})
    text = shown_by(load_evidence(failed, study, PROFILE))
    assert "97 trials failed for reasons outside the model" in text and "worker lost" in text
    assert "No trial has finished" in text and "-effects" not in text and "-levels" not in text


def test_what_no_trial_ever_reached_is_sentences(store: Store, study: Study) -> None:
    evidence = load_evidence(store, study, PROFILE)
    unsettled = dataclasses.replace(evidence, rows=evidence.rows.assign(kimg_to_settle=math.inf))
    text = shown_by(unsettled, "speed-fc")
    assert "No trial of these arms came to a finite value" in text and "share a scored seed" not in text
    assert "compares the last level with the first" in text.split('<a id="speed-fc"></a>')[1]
    assert "speed-fc-effects" not in text.splitlines() and len(re.findall(r"\| +never \|", text)) == 3


@pytest.mark.filterwarnings("error")
def test_fids_of_0_are_sentences_without_warnings(store: Store, study: Study) -> None:
    evidence = load_evidence(store, study, PROFILE)
    evidence.rows.loc[(evidence.rows.arm == "fc") & (evidence.rows.status == "ok"), "fid"] = -4.8e-9
    text = shown_by(evidence, "latent-std-fc")
    assert "FID is 0 in every trial of fc, and 0 has no ratio" in text and "no trial has a score yet of fc" not in text
    assert "Where FID is 0 there is no ratio" in text and "−0.000" not in text


def test_two_seeds_have_no_interval_and_why(store: Store, study: Study, tmp_path: Path) -> None:
    few = Store(shutil.copytree(store.root, tmp_path / "few"))
    plan = few.read_plan(study.name, PROFILE) or {}
    few.write_plan(study.name, PROFILE, {**plan, "cells": [c for c in plan["cells"] if c["seed"] < 2]})
    text = shown_by(load_evidence(few, study, PROFILE), "latent-std-dc")
    assert "*[–]: fewer than 3 seeds give no interval." in text and "have no finite value" not in text
    shown = [line for line in text.splitlines() if line.startswith("| ")]
    assert shown and not any(re.search(r"\d \[[−+\d]", re.sub(r"of \d \[.*?%\]", "", line)) for line in shown)


def test_the_verdicts_say_which_levels_a_trend_compares(store: Store, study: Study) -> None:
    text = shown_by(load_evidence(store, study, PROFILE))
    answers = text.split("How to read this")[0].splitlines()
    assert any("| [recall rises" in line and "| last − first level<br>" in line for line in answers)
    assert '"last : first level"' in text


def test_how_it_was_made_is_told_in_words(store: Store, study: Study) -> None:
    box = provenance.provenance(load_evidence(store, study, PROFILE)).set_index("")[" "]
    assert box["hardware"].endswith("1 thread per trial") and re.fullmatch(
        r"\d+ (s|min), the sum over trials", box["compute"]
    )


def test_good_extractors_are_facts_and_no_warning(store: Store, study: Study) -> None:
    evidence = load_evidence(store, study, PROFILE)
    for accuracy, warned in ((0.955, False), (0.5, True)):
        proof = {"extractor_accuracy": accuracy, "extractor_chance": 0.1, "extractor_unseen": 2000.0}
        text = shown_by(with_reference(evidence, **{**evidence.reference, **proof}))
        assert any(line.startswith("> The classifier gets") for line in text.splitlines()) is warned
        assert re.search(r"\| extractor +\| +The classifier gets", text)


def test_many_commits_are_summarised(store: Store, study: Study, tmp_path: Path) -> None:
    mixed = Store(shutil.copytree(store.root, tmp_path / "mixed"))
    rows = load(mixed, study=study.name, profile=PROFILE).sort_values("date")
    for i, trial_id in enumerate(rows.trial_id):
        result = mixed.read_result(trial_id)
        made = {**result["provenance"], "commit": f"commit-{i}", "date": f"2000-01-01T00:00:{i:02d}Z"}
        shutil.rmtree(mixed.trial_folder(trial_id))
        mixed.write(TrialResult(spec=store.read_spec(trial_id), status="failed", error="x", provenance=made))
    box = provenance.provenance(load_evidence(mixed, study, PROFILE)).set_index("")[" "]
    assert box["commit"] == f"{len(rows)} in all, from commit-0 to commit-{len(rows) - 1}"


def test_too_few_seeds_and_missing_arms_are_said(store: Store, study: Study, tmp_path: Path) -> None:
    few = Store(shutil.copytree(store.root, tmp_path / "few"))
    plan = few.read_plan(study.name, PROFILE) or {}
    kept = [c for c in plan["cells"] if c["seed"] < 2 and not c["arm"].startswith("fc latent_std")]
    few.write_plan(study.name, PROFILE, {**plan, "cells": kept})
    text = shown_by(load_evidence(few, study, PROFILE), "latent-std-dc", "latent-std-fc")
    assert "Exploratory: 2 seeds per arm" in text and "That is: fc latent_std=0.1;" in text
    assert "No scored trial yet of: `fc latent_std=0.1`, `fc latent_std=0.3`" in text
    assert "latent-std-dc-effects" in text and "latent-std-fc-effects" not in text
    assert "| supported" not in text and "| refuted" not in text and "| unresolved" in text


def test_mixed_protocols_are_left_out_and_said(store: Store, study: Study, tmp_path: Path) -> None:
    mixed = Store(shutil.copytree(store.root, tmp_path / "mixed"))
    rows = load(mixed, study=study.name, profile=PROFILE)
    trial_id = rows[(rows.arm == "dc") & (rows.seed == 0)].trial_id.item()
    shutil.rmtree(mixed.trial_folder(trial_id) / "scores")
    (mixed.trial_folder(trial_id) / "scores").mkdir()
    mixed.add_scores(trial_id, make_protocol(num_generated=1000), {"fid": 1e6})
    evidence = load_evidence(mixed, study, PROFILE)
    text = shown_by(evidence, "latent-dim-dc")
    assert "1 trial finished but not scored under this protocol" in text and "1,000,000" not in text
    assert (evidence.rows.fid.dropna() < 1000).all() and "real images: of so few" not in text


@pytest.mark.parametrize(
    ("generated", "remedy"),
    [
        (2000, "At least 1,000 should be left that no GAN is trained on."),
        (600, "As many are taken as are generated: let num_generated be 1,000 at the least."),
    ],
)
def test_few_real_images_are_said(generated: int, remedy: str, store: Store, study: Study, tmp_path: Path) -> None:
    poor = Store(shutil.copytree(store.root, tmp_path / "poor"))
    protocol = dataclasses.replace(make_protocol(), num_reference=600, num_generated=generated)
    plan = poor.read_plan(study.name, PROFILE) or {}
    trial_id = plan["cells"][0]["trial_id"]
    poor.add_scores(trial_id, protocol, {"fid": 20.0, "is_mean": 7.0})
    cells = [{**cell, "protocol_id": protocol.protocol_id} for cell in plan["cells"]]
    poor.write_plan(study.name, PROFILE, {**plan, "protocol_id": protocol.protocol_id, "cells": cells})
    text = shown_by(load_evidence(poor, study, PROFILE), "latent-dim-dc")
    assert f"Scored against 600 real images: of so few, FID and the others say little. {remedy}" in text


def test_commands_can_be_pasted(store: Store, study: Study, tmp_path: Path) -> None:
    """Whatever files, folders and stores are called, and wherever the page is read."""
    there = Store(shutil.copytree(store.root, tmp_path / "my runs" / "runs"))
    design = study.at(PROFILE)
    assert shlex.split(provenance.command(design, there, 6)) == [
        *("make", "study-noise", f"PROFILE={PROFILE}", "SEEDS=6", f"STORE={there.root}")
    ], "it is no store of the repository's, though called as that is"
    code = UserCode(str(tmp_path / "my study.py"), "")
    odd = dataclasses.replace(study, own_code=code).at(f"{PROFILE}@folder:{tmp_path}/mes photos é")
    assert shlex.split(provenance.command(odd, there, 6)) == [
        *("python", "-m", "studies", "run", str(tmp_path / "my study.py")),
        *("--profile", f"{PROFILE}@folder:{tmp_path}/mes photos é", "--seeds", "6", "--store", str(there.root)),
    ]
    there.write_plan("noise", odd.profile.name, there.read_plan("noise", PROFILE) or {})
    text = text_of(summary_page(STUDIES, CLAIMS, odd.profile.name, there))
    assert shlex.split(re.findall("`(make study-depth .*)` runs it", text)[0]) == [
        *("make", "study-depth", f"PROFILE={odd.profile.name}", f"STORE={there.root}")
    ]


def test_a_deleted_cache_is_said(store: Store, study: Study, tmp_path: Path) -> None:
    without = Store(shutil.copytree(store.root, tmp_path / "without"))
    shutil.rmtree(without.root / "cache")
    text = shown_by(load_evidence(without, study, PROFILE), "latent-dim-dc")
    assert "no longer in the store's cache" in text and "-neighbours" not in text and "-samples" in text


def test_the_summary_answers_every_claim(store: Store, study: Study) -> None:
    page = summary_page(STUDIES, CLAIMS, PROFILE, store)
    text = text_of(page)
    for words in CLAIMS:
        assert f"| [{words}](#" in text
    absent = [n for n, s in STUDIES.items() if n != "noise" and PROFILE in [p.name for p in s.profiles]]
    assert f"No results yet of: {', '.join(absent)}." in text and "architecture" in absent
    assert text.count("**No results.** The study") == len(absent) and "make study-depth PROFILE=laptop" in text
    verdicts = page.tables["claims"].numbers.set_index("claim").verdict
    answers = load_evidence(store, study, PROFILE).answers
    answer = next(a for a in answers if a.question == "latent-std-fc")
    assert verdicts["There is a sweet spot of noise: the latent's scale"] == answer.verdict
    assert verdicts["DC images are clearly better than FC images"] == "no results"
    assert verdicts["D converging faster than G is the common failure"] == "no results"
    assert "noise-claims" in text


def test_a_summary_of_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown profile 'laptp'"):
        summary_page(STUDIES, CLAIMS, "laptp", store)
    with pytest.raises(UserError, match="holds no trial of the profile smoke; it has results of: laptop; name one"):
        summary_page(STUDIES, CLAIMS, "smoke", store)
    with pytest.raises(UserError, match="holds no trial of the profile laptop; it has no results"):
        summary_page(STUDIES, CLAIMS, PROFILE, Store(tmp_path / "empty", create=True))


def test_every_claim_names_existing_questions_and_levels() -> None:
    for reference in (reference for references in CLAIMS.values() for reference in references):
        study, question, *level = reference.split("/", 2)
        labels = [one.label for one in STUDIES[study].at(PROFILE).question(question).factor.levels]
        assert not level or level[0] in labels, reference


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_profile_can_say_what_it_is_about(study: Study) -> None:
    """The reference networks' have a budget each, and the profile none."""
    for profile in study.profiles:
        assert f" of {profile.changes['dataset']}, 7 training seeds per arm" in scope(profile, 7)
        assert ", 1 training seed per arm" in scope(profile, 1)
