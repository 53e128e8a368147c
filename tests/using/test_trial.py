"""A stored trial as an object: what it says, and that its generator is the one that was scored."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import harness
from harness.errors import UserError
from harness.execution.trial import TrialContext, score_stored
from harness.plugin_identity import identity
from harness.plugins import read_user_code
from harness.scoring import fidelity
from harness.scoring.fidelity import score_generator
from harness.storage.samples import GRID
from harness.storage.store import Store
from harness.training.loop import build_networks
from harness.training.stored import read_weights
from harness.using.trial import Place, command
from tests.using.conftest import small


def test_a_trial_says_all_that_is_stored(trained: Store, trial_ids, context: TrialContext) -> None:
    trial = harness.open_trial(trained.root, trial_ids["dc", 1])
    assert trial.spec.latent_std == 0.5 and trial.status == "ok" and trial.spec.trial_id == trial.id
    assert trial.protocol == context.protocol
    assert trial.scores == trained.read_scores(trial.id)[context.protocol.protocol_id][1]
    assert len(trial.curves) == 10 and trial.samples.shape == (GRID * GRID, 28, 28)
    assert trial.cost["d_steps"] == 10 and trial.provenance["commit"] == "abc"
    assert [(p.study, p.profile, p.arm, p.seed) for p in trial.places] == [("tiny", "smoke", "dc", 1)]
    assert repr(trial) == f"<Trial {trial.id}: tiny (smoke), dc, seed 1, ok>"


@pytest.mark.parametrize("arm", ["fc", "dc"])
def test_samples_are_what_was_scored(arm: str, trained: Store, trial_ids, context, monkeypatch) -> None:
    """The very pixels that the harness scores, and so the very score, with averaged and with raw weights."""
    trial, threads = harness.open_trial(trained, trial_ids[arm, 0]), torch.get_num_threads()
    seen: list[torch.Tensor] = []
    to_uint8 = fidelity.to_uint8
    monkeypatch.setattr(fidelity, "to_uint8", lambda images: seen.append(to_uint8(images)) or seen[-1])
    again = score_stored(trial.spec, trained.read_weights(trial.id), context)  # with one thread, as trials are
    assert again.scores == trial.scores
    assert len(seen) == 6, "two generators in batches of 100"
    for weights, images in (("ema", torch.cat(seen[:3])), ("raw", torch.cat(seen[3:]))):
        assert torch.equal(trial.generator(weights=weights).pictures(250), images), weights
    torch.set_num_threads(threads)
    assert trial.generator().training is False
    assert torch.equal(trial.generator().sample(3), trial.generator(weights="ema").sample(3))


def test_the_module_scores_as_the_trial(trained: Store, trial_ids, context: TrialContext) -> None:
    """Scored from outside as a network of N(0, 1): the latent scale and the statistics are inside."""
    trial = harness.open_trial(trained, trial_ids["dc", 0])
    fid = score_generator(
        trial.generator(),
        latent_dim=16,
        latent_std=1.0,
        protocol=context.protocol,
        extractor=context.extractor,
        data=context.data,
        cache=context.cache,
        batch_size=100,
    )["fid"]
    assert fid == pytest.approx(trial.scores["fid"], rel=1e-6)


def test_the_sampler_keeps_stored_batch_norm(trained: Store, trial_ids) -> None:
    trial = harness.open_trial(trained, trial_ids["dc", 0])
    generator, stored = trial.generator(), read_weights(trained.read_weights(trial.id))["ema"]
    state = generator.network.state_dict()
    assert any("running_mean" in name for name in stored)
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    z = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    plain = build_networks(trial.spec).generator.eval()
    plain.load_state_dict(stored)
    with torch.no_grad():
        assert torch.equal(generator(z), plain(z * 0.5))
    assert not any(p.requires_grad for p in generator.parameters())


def test_seeds_and_numbers_of_samples(trained: Store, trial_ids) -> None:
    generator = harness.open_trial(trained, trial_ids["fc", 0]).generator()
    images = generator.sample(130, seed=7)
    assert images.shape == (130, 1, 28, 28) and images.dtype == torch.float32 and images.abs().max() <= 1
    torch.testing.assert_close(generator.sample(30, seed=7), images[:30], rtol=0, atol=1e-5)
    assert not torch.equal(generator.sample(30, seed=8), images[:30])
    for n, seed, message in ((0, 0, "n=0 is out of range"), (1, -1, "seed=-1 is out of range")):
        with pytest.raises(UserError, match=message):
            generator.sample(n, seed)


def test_interpolation_goes_from_latent_to_latent(trained: Store, trial_ids) -> None:
    generator = harness.open_trial(trained, trial_ids["fc", 0]).generator()
    images, ends = generator.interpolate(3, 5, seed=2), generator.sample(6, seed=2)
    assert images.shape == (15, 1, 28, 28)
    torch.testing.assert_close(images[[0, 4, 5, 9, 10, 14]], ends, rtol=0, atol=1e-5)
    norms = []
    generator.register_forward_pre_hook(lambda module, args: norms.append(args[0].norm(dim=1)))
    generator.interpolate(3, 5, seed=2)
    for of_row in norms:
        assert of_row.min() > 0.9 * min(of_row[0], of_row[-1]), "it passes through the middle of the ball"


def test_ids_by_an_unambiguous_beginning(trained: Store, trial_ids) -> None:
    ids = sorted(trial_ids.values())
    shortest = next(n for n in range(1, 17) if len({i[:n] for i in ids}) == len(ids))
    assert [harness.open_trial(trained, i[:shortest]).id for i in ids] == ids
    for given, message in (
        ("xyz", "no trial of .* begins with 'xyz'; there: "),
        ("", "no trial of .* begins with ''"),
        ("../..", r"no trial of .* is '\.\./\.\.'; allowed: STUDY/ARM/SEED"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            harness.open_trial(trained, given)
        assert "\n" not in str(refused.value)


def test_trials_are_found_by_their_place(trained: Store, trial_ids, tmp_path: Path) -> None:
    study = harness.open_trial(trained, trial_ids["fc", 1]).places[0]
    for place in (f"{study.study}/fc/1", f"{study.study}/{study.profile}/fc/1"):
        assert harness.open_trial(trained, place).id == trial_ids["fc", 1]
    with pytest.raises(UserError, match=f"is '{study.study}/fc/99'; near to it: '{study.study}/fc/"):
        harness.open_trial(trained, f"{study.study}/fc/99")
    other = Store(shutil.copytree(trained.root, tmp_path / "s"))
    plan = other.read_plan(study.study, study.profile)
    assert plan is not None
    moved = [{**cell, "seed": 1 - cell["seed"] if cell["seed"] < 2 else cell["seed"]} for cell in plan["cells"]]
    other.write_plan(study.study, "paper", {**plan, "profile": "paper", "cells": moved})
    with pytest.raises(UserError, match="2 trials of .*; give STUDY/PROFILE/ARM/SEED"):
        harness.open_trial(other, f"{study.study}/fc/1")
    assert harness.open_trial(other, f"{study.study}/paper/fc/0").id == trial_ids["fc", 1]


def test_an_ambiguous_beginning_names_the_trials(tmp_path: Path, digits) -> None:
    store = Store(tmp_path / "s", create=True)
    with pytest.raises(UserError, match="it holds none; run a study first"):
        harness.open_trial(store, "ab")
    for n in range(17):  # more than there are first digits
        spec = small({}, digits, seed=n)
        (store.layout.trial(spec.trial_id)).mkdir(parents=True)
    first = next(c for c in "0123456789abcdef" if sum(i.startswith(c) for i in store.trial_ids()) > 1)
    with pytest.raises(UserError, match=f"trials of .* begin with '{first}': .*; give more of one"):
        harness.open_trial(store, first)


def test_what_left_no_weights_says_so(trained: Store, trial_ids) -> None:
    trial = harness.open_trial(trained, trial_ids["fc", 2])
    assert trial.scores == {} and trial.protocol is None and trial.curves.empty
    for what in (trial.generator, lambda: trial.samples):
        with pytest.raises(UserError, match=r"left no \w+: it diverged \(d_loss is nan at step 3\)"):
            what()
    with pytest.raises(UserError, match="unknown weights 'best'; valid: ema, raw"):
        harness.open_trial(trained, trial_ids["fc", 0]).generator(weights="best")  # type: ignore[arg-type]


MINE = """
from torch import nn
from architectures import ARCHITECTURES, Architecture, GanPair, fc


def build(**choices):
    pair = fc.build(**choices)
    return GanPair(nn.Sequential(*pair.generator, nn.Identity()), pair.discriminator)


ARCHITECTURES["fc-again"] = Architecture(build, fc.defaults)
"""


def test_own_networks_need_their_file_unchanged(tmp_path: Path, context: TrialContext, digits) -> None:
    from dataclasses import replace

    from harness.execution.trial import run_trial

    file = tmp_path / "mine.py"
    file.write_text(MINE)
    code = read_user_code(file)
    found = identity(code, [("architecture", "fc-again")])
    spec = small({}, digits, architecture="fc-again", code=found)
    store = Store(tmp_path / "s", create=True)
    store.write(run_trial(spec, replace(context, user_code=code)))
    with pytest.raises(UserError, match=f"code of the user's own \\({found}\\): nothing says where that is; name its"):
        harness.open_trial(store, spec.trial_id).generator()
    assert harness.open_trial(store, spec.trial_id).generator(code=file).sample(2).shape == (2, 1, 28, 28)
    cells = [{"arm": "fc-again", "seed": 0, "trial_id": spec.trial_id}]
    plan = {"protocol_id": context.protocol.protocol_id, "cells": cells, "file": str(file)}
    store.write_plan("mine", "smoke", plan)
    assert harness.open_trial(store, spec.trial_id).generator().sample(2).shape == (2, 1, 28, 28)
    file.write_text(MINE.replace("Identity()", "Tanh()"))
    with pytest.raises(UserError, match="mine.py holds another version of it"):
        harness.open_trial(store, spec.trial_id).generator()


def test_importing_the_harness_is_cheap() -> None:
    code = (
        "import sys, harness; heavy = {'torch', 'pandas', 'numpy', 'rich', 'typer', 'ray'} & set(sys.modules); "
        "assert not heavy, heavy; harness.open_trial, harness.load, harness.columns, harness.load_curves; "
        "assert 'torch' not in sys.modules; assert set(harness.__all__) <= set(dir(harness))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="it offers columns, load"):
        _ = harness.lode


def test_a_search_is_run_by_its_study() -> None:
    place = Place(study="small-tuned-search", profile="smoke", arm="fc / 0", seed=0, protocol_id="", file="")
    assert command(place, 2) == "gan-ablation run small-tuned --profile smoke --seeds 2"
    assert command(Place(*("noise", *place[1:])), 6) == "gan-ablation run noise --profile smoke --seeds 6"
