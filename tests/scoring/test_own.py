"""A feature network of the user's own: scored through torch-fidelity, named by its code and weights, or refused."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch_fidelity import calculate_metrics

from harness.data import PreparedData
from harness.errors import UserError
from harness.plugin_identity import identity
from harness.plugins import UserCode, read_user_code
from harness.scoring.extractors import CLASSIFIER, EXTRACTORS, Extractor, OwnNetwork
from harness.scoring.fidelity import SCORES, make_protocol, score_images
from harness.scoring.networks import feature_network
from harness.scoring.yardstick import golden_scores, prepare_extractor, prepare_online_extractor
from tests.scoring.test_scoring import Images

FILE = '''
"""A docstring."""
import torch
from torch import nn
from harness.scoring.extractors import EXTRACTORS, OwnNetwork

class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(49, 20)  # a comment

    def forward(self, images):
        cells = nn.functional.adaptive_avg_pool2d(images.float().mean(1, keepdim=True) / 255, 7).flatten(1)
        return self.mix(cells), cells[:, :5]

def other():
    return 1

EXTRACTORS["cells"] = OwnNetwork(build=Cells, width=20, classes=5, rms=0.3)
'''


@pytest.fixture(autouse=True)
def emptied():
    yield
    for name in [name for name in EXTRACTORS if name not in EXTRACTORS.shipped]:
        del EXTRACTORS[name]


def prepared(folder: Path, source: str, data: PreparedData, weights: Path | None = None, name="cells") -> Extractor:
    return prepare_extractor(name, data, folder, weights, code=read(folder, source))


def read(folder: Path, source: str) -> UserCode:
    (path := folder / "mine.py").write_text(source)
    code = read_user_code(path)
    code.load()
    return code


def test_scores_are_what_torch_fidelity_gives(digits: PreparedData, tmp_path: Path) -> None:
    """By the name under which it is registered there."""
    extractor = prepared(tmp_path, FILE, digits)
    protocol = make_protocol(extractor, digits, num_generated=200)
    fakes = np.array(255 - digits.images("train")[:200])
    real = np.array(digits.images("reference")[:200])
    (ours,) = score_images(feature_network(extractor, "cpu"), [fakes], real, protocol, "cpu")
    theirs = calculate_metrics(
        **{"input1": Images(fakes), "input2": Images(real), "feature_extractor": "cells", "batch_size": 50},
        **{"feature_extractor_weights_path": str(extractor.weights_path), "cuda": False, "verbose": False},
        **{"isc": True, "fid": True, "kid": True, "prc": True, "save_cpu_ram": True, "rng_seed": 0},
        **{"kid_subsets": protocol.kid_subsets, "kid_subset_size": 200, "kid_kernel_poly_gamma": protocol.kid_gamma},
    )
    wanted = {ours: theirs[library] for library, ours in SCORES.items() if ours != "kid_subset_std"}
    assert {name: ours[name] for name in wanted} == wanted and wanted["fid"] > 0.1
    assert protocol.kid_gamma == pytest.approx(1 / (20 * 0.3**2))
    assert "modes" not in ours, "its classes are not the data's"


def test_its_hash_is_of_code_and_weights(digits: PreparedData, tmp_path: Path) -> None:
    first = prepared(tmp_path, FILE, digits)
    same = (FILE.replace("a comment", "another"), FILE.replace("return 1", "return 2"))
    assert {prepared(tmp_path, text, digits).weights_hash for text in same} == {first.weights_hash}
    others = [FILE.replace("/ 255", "/ 128"), FILE.replace("rms=0.3", "rms=0.5"), FILE.replace(", 7)", ", (7, 7))")]
    hashes = {prepared(tmp_path, text, digits).weights_hash for text in others}
    weights = {"mix.weight": torch.ones(20, 49), "mix.bias": torch.ones(20)}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    torch.save({**weights, "mix.weight": torch.zeros(20, 49)}, tmp_path / "w.pth")
    named = prepared(tmp_path, FILE.replace("rms=0.3", 'file="w.safetensors"'), digits)
    given = prepared(tmp_path, FILE, digits, tmp_path / "w.pth")
    assert len({first.weights_hash, *hashes, named.weights_hash, given.weights_hash}) == 6
    network = feature_network(given, "cpu")
    assert network.network.mix.weight.abs().max() == 0 and not network.training
    protocols = [make_protocol(extractor, digits, num_generated=50) for extractor in (first, named)]
    assert len({protocol.protocol_id for protocol in protocols}) == 2
    assert prepare_online_extractor(first, digits, tmp_path).name == CLASSIFIER, "curves are followed by a cheap one"


FORWARD = "        return self.mix(cells), cells[:, :5]"
BUILD = "build=Cells"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (FORWARD, "        return self.mix(cells) / 0, cells[:, :5]", "the features of .* are not finite; mend its"),
        (FORWARD, "        return self.mix(cells) * 0, cells[:, :5]", "are the same for 16 images, so .*; mend its"),
        (FORWARD, "        return cells, cells[:, :5]", "of shape 16×49 for 16 images, and 16×20 are declared"),
        (FORWARD, "        return self.mix(cells)", "the logits of the extractor 'cells' are none for 16 images"),
        ("classes=5", "classes=4", "the logits of .* are of shape 16×5 for 16 images, and 16×4 are"),
        (
            "self.mix(cells),",
            "self.mix(cells + torch.rand(len(cells), 49)),",
            "change from one call to the next, by chance",
        ),
        ("self.mix(cells),", "self.mix(cells - cells.mean(0)),", "or with the images that are shown together, so"),
        (
            "self.mix(cells),",
            "self.mix(images),",
            r"'cells' failed: RuntimeError: .* \(line 14 of .*\); mend its network",
        ),
        ("rms=0.3", "rms=0.0", "rms=0.0 of an OwnNetwork is out of range; allowed: above 0"),
        (BUILD, "build=other", "'cells' is built as int; wanted: a torch.nn.Module"),
        (BUILD, "build=lambda: 1 / 0", "cannot be built: ZeroDivisionError: division by zero"),
        (BUILD, "build=lambda: open('w.pth') and Cells()", "what `open` brings cannot be followed"),
        ("rms=0.3", "file='absent.pth'", "absent.pth, which the extractor's entry names, is not a file"),
        ("rms=0.3", "file='mine.py'", "mine.py, which .* names, does not hold tensors by name: "),
        ("rms=0.3", "file='foreign.pth'", "foreign.pth does not hold the weights of Cells: .*mix.weight"),
        ('"cells"', '"vgg16"', "'vgg16' is called as one of torch-fidelity's; give yours another name"),
        ('"cells"', '"clip"', "'clip' is shipped, and results are stored under it"),
        ('"cells"', '"sells"', "unknown extractor 'cells' \\(did you mean 'sells'\\?\\); valid: classifier, "),
    ],
)
def test_unusable_networks_are_refused_in_one_line(
    old: str, new: str, message: str, digits: PreparedData, tmp_path: Path
) -> None:
    torch.save({"mix.bias": torch.ones(20)}, tmp_path / "foreign.pth")
    name = "vgg16" if "vgg16" in new else "cells"
    with pytest.raises(UserError, match=message) as refused:
        extractor = prepared(tmp_path, FILE.replace(old, new, 1), digits, name=name)
        golden_scores(extractor, make_protocol(extractor, digits, num_generated=50), digits, tmp_path)
    assert "\n" not in str(refused.value)


def test_another_study_does_not_know_it(digits: PreparedData, tmp_path: Path) -> None:
    assert identity(read(tmp_path, FILE), []) == "", "trials are what they would be without it"
    with pytest.raises(UserError, match="allowed: with a study that your own file declares"):
        prepare_extractor("cells", digits, tmp_path)
    assert isinstance(EXTRACTORS["cells"], OwnNetwork)
