"""Generators for other programs: what was written is opened again by those programs and gives the same images."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch import nn

import harness
from harness.cli import app
from harness.errors import UserError
from harness.storage.store import Store
from harness.using import models
from harness.using.generator import TrainedGenerator
from tests.using.conftest import small

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
ALONE = """
import sys, torch, numpy
z = torch.randn(7, 16, generator=torch.Generator().manual_seed(3))
numpy.save(sys.argv[2], torch.export.load(sys.argv[1]).module()(z).numpy())
assert not {"harness", "architectures"} & set(sys.modules)
"""


def latents() -> torch.Tensor:
    return torch.randn(7, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("arm", ["fc", "dc"])
def test_torch_export_runs_without_this_project(arm: str, trained: Store, trial_ids, tmp_path: Path) -> None:
    generator, file = harness.open_trial(trained, trial_ids[arm, 0]).generator(), tmp_path / "g.pt2"
    app(
        ["export-model", str(trained.root), trial_ids[arm, 0][:9], "--to", "torch", "--out", str(file)],
        standalone_mode=False,
    )
    subprocess.run([sys.executable, "-c", ALONE, file, tmp_path / "images.npy"], check=True, cwd=tmp_path)
    assert np.abs(np.load(tmp_path / "images.npy") - generator(latents()).numpy()).max() <= 1e-5


@needs_onnx
@pytest.mark.parametrize("arm", ["fc", "dc"])
def test_onnx_runtime_gives_the_same(arm: str, trained: Store, trial_ids, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    generator, file = harness.open_trial(trained, trial_ids[arm, 0]).generator(), tmp_path / "g.onnx"
    app(
        ["export-model", str(trained.root), trial_ids[arm, 0], "--to", "onnx", "--out", str(file)],
        standalone_mode=False,
    )
    onnx.checker.check_model(onnx.load(file))
    images = onnxruntime.InferenceSession(file).run(["images"], {"z": latents().numpy()})[0]
    assert np.abs(images - generator(latents()).numpy()).max() <= 1e-5


def test_a_model_that_differs_is_refused(digits) -> None:
    spec = small({}, digits)
    with pytest.raises(UserError, match=r"torch.export gives other images .* at 1 latents they differ by up to 2e-05"):
        models.exported(TrainedGenerator(Unfaithful(), spec))


class Unfaithful(nn.Module):
    """A network that is another one while it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z * self.weight).view(-1, 1, 4, 4) + (2e-5 if torch.compiler.is_exporting() else 0.0)


class Undecided(nn.Module):
    """A network that cannot be exported: what it does depends on what it sees."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z.view(-1, 1, 4, 4) * (2 if z.sum() > 0 else 1)


def test_what_cannot_be_exported_is_one_line(digits, monkeypatch) -> None:
    network = Undecided()
    network.weight = nn.Parameter(torch.ones(1))
    with pytest.raises(UserError, match="torch.export cannot take this network: ") as refused:
        models.exported(TrainedGenerator(network, small({}, digits)))
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"ONNX needs onnx, onnxscript, onnxruntime; `pip install 'gan-ablation\[onnx\]'"
    ):
        models.onnx(TrainedGenerator(network, small({}, digits)))


def test_a_hub_folder_says_and_loads_all(trained: Store, trial_ids, tmp_path: Path, context) -> None:
    trial, folder = harness.open_trial(trained, trial_ids["dc", 1]), tmp_path / "my-gan"
    for _ in range(2):  # its own folder is replaced
        app(["export-model", str(trained.root), trial.id, "--to", "hub", "--out", str(folder)], standalone_mode=False)
    assert torch.equal(harness.load_generator(folder).sample(40), trial.generator().sample(40))
    card = ModelCard.load(folder / "README.md")
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results or []}
    assert scores["fid"] == trial.scores["fid"] and card.data.library_name == "gan-ablation"
    rows = harness.load(trained, study="tiny")
    mean = rows[rows.arm == "dc"].fid.mean()
    told = json.loads((folder / "scores.json").read_text())
    (fid,) = [row for row in told["arms"][0]["metrics"] if row["metric"] == "fid"]
    assert fid["mean"] == pytest.approx(mean) and fid["seeds"] == 2 and fid["low"] is None
    for words in (
        f"Protocol `{context.protocol.protocol_id}`: {context.protocol.describe()}",
        "The arm “dc” of tiny (smoke), 2 seeds. So few seeds show nothing",
        f"| FID ↓ | {trial.scores['fid']:,.0f} | {mean:,.0f} [–] |",
        "gan-ablation run tiny --profile smoke --seeds 3",
        '"latent_std": 0.5',
    ):
        assert words in card.text, words
    assert str(tmp_path) not in "".join(p.read_text() for p in folder.iterdir() if p.suffix in (".md", ".json"))
    assert Image.open(folder / "samples.png").size == (238, 238)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my-gan"], "nothing half-made stays"


def test_a_hub_folder_hides_whose_pictures(trained: Store, trial_ids, tmp_path: Path, context, digits) -> None:
    from harness.execution.trial import run_trial

    spec = small({}, digits, dataset="folder:/home/me/secret")
    store = Store(tmp_path / "s", create=True)
    store.write(run_trial(spec, context))
    app(
        ["export-model", str(store.root), spec.trial_id, "--to", "hub", "--out", str(tmp_path / "hub")],
        standalone_mode=False,
    )
    assert not [p.name for p in (tmp_path / "hub").iterdir() if b"secret" in p.read_bytes()]
    assert "No study of its store names trial" in (tmp_path / "hub" / "README.md").read_text()
    assert harness.load_generator(tmp_path / "hub").sample(1).shape == (1, 1, 28, 28)


def test_folders_of_others_are_left_alone(trained: Store, trial_ids, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "README.md").write_text("precious")
    words = ["export-model", str(trained.root), trial_ids["fc", 0], "--to", "hub", "--out", str(tmp_path / "thesis")]
    with pytest.raises(UserError, match="thesis holds something else; name an empty or new folder with --out"):
        app(words, standalone_mode=False)
    held, other = trial_ids["fc", 0], trial_ids["fc", 1]
    words[-1] = str(tmp_path / "hub")
    app(words, standalone_mode=False)
    app(words, standalone_mode=False)
    with pytest.raises(UserError, match=f"hub holds the generator of trial {held}; name an empty or new folder"):
        app([words[0], words[1], other, *words[3:]], standalone_mode=False)
    with pytest.raises(UserError, match="thesis is not a folder of `export-model --to hub`"):
        harness.load_generator(tmp_path / "thesis")
    with pytest.raises(UserError, match="is not a folder of `export-model --to hub` "):
        harness.load_generator(tmp_path / "nowhere")


def test_sample_writes_one_picture(trained: Store, trial_ids, tmp_path: Path, capsys) -> None:
    trial, out = harness.open_trial(trained, trial_ids["fc", 1]), tmp_path / "grid.png"
    words = ["sample", str(trained.root), trial.id[:10], "--out", str(out)]
    app([*words, "-n", "9"], standalone_mode=False)
    picture = np.asarray(Image.open(out))
    pixels = trial.generator().pictures(9)[:, 0].numpy()
    assert picture.shape == (88, 88) and np.array_equal(picture[30:58, 60:88], pixels[5])
    app([*words, "-n", "10", "--interpolate"], standalone_mode=False)
    assert Image.open(out).size == (4 * 30 - 2, 2 * 30 - 2)
    assert "wrote 8 samples to" in capsys.readouterr().out
    for more, message in (
        (["-n", "0"], "number=0 is out of range; allowed: at least 1"),
        (["-n", "20000"], "number=20000 is out of range; allowed: at most 10000"),
        (["-n", "3", "--interpolate"], "allowed with --interpolate: at least 4"),
        (["--out", str(tmp_path / "grid.jpg")], "it must be a file that ends in .png"),
        (["--out", str(tmp_path / "no" / "grid.png")], "is not a folder"),
        (["--weights", "best"], "unknown weights 'best'; valid: ema, raw"),
    ):
        with pytest.raises(UserError, match=message):
            app([*words, *more], standalone_mode=False)
