import hashlib
import os
import shutil
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torch_fidelity import (
    FeatureExtractorBase,
    GenerativeModelModuleWrapper,
    calculate_metrics,
    register_feature_extractor,
)

import architectures
from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.scoring.extractors import Extractor
from harness.scoring.fidelity import SCORES, NonFiniteSamples, make_protocol, prepare_reference, score_generator
from harness.scoring.online import OnlineFid
from harness.scoring.yardstick import prepare_extractor

EIGENVALUE_ERROR = 1e-5
"""The library takes roots of the eigenvalues of a product of covariances, some of them 0 up to 1e-13 either way."""


class Fixed(nn.Module):
    """Stands for a generator: gives the same images in the same order, whatever the latents."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.images = torch.from_numpy(np.array(images)).float() / 127.5 - 1
        self.weight = nn.Parameter(torch.zeros(1))  # torchmetrics' observer asks where the generator is
        self.next = 0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        found = self.images[self.next : self.next + len(latents)]
        self.next += len(latents)
        return found


@pytest.fixture(scope="module")
def protocol(digits, extractor):
    return make_protocol(extractor, digits, num_generated=1000)


@pytest.fixture
def score(digits, extractor, protocol, cache):
    def scored(generator: nn.Module, **changes) -> dict[str, float]:
        values = {"latent_dim": 8, "latent_std": 1.0, "protocol": protocol, "extractor": extractor, "data": digits}
        return score_generator(generator, **{**values, "cache": cache, **changes})

    return scored


def small_generator() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build("dc", resolution=28, channels=1, latent_dim=8, generator_width=4).generator


def features(extractor: Extractor, images: np.ndarray) -> np.ndarray:
    return extractor.load()(torch.from_numpy(np.array(images)))[0].numpy()


def fid_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, in doubles: tr (AB)^½ = tr (A^½ B A^½)^½, and both roots are of symmetric matrices."""
    values, vectors = scipy.linalg.eigh(np.cov(a.T))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ np.cov(b.T) @ root).clip(0)).sum()
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * cross)


def test_the_classifier_knows_digits_it_never_saw(extractor: Extractor, digits: PreparedData) -> None:
    assert extractor.accuracy >= 0.93
    guesses = extractor.load()(torch.from_numpy(np.array(digits.images("reference"))))[1].argmax(1).numpy()
    assert (guesses == digits.labels("reference")).mean() == pytest.approx(extractor.accuracy)


def test_fid_is_exact(score, extractor, digits, protocol) -> None:
    fakes = digits.images("train")[:1000]
    by_hand = fid_by_hand(features(extractor, fakes), features(extractor, digits.images("reference")[:1000]))
    assert score(Fixed(fakes))["fid"] == pytest.approx(by_hand, rel=EIGENVALUE_ERROR)
    assert protocol.num_reference == 1000


class Images(torch.utils.data.Dataset):
    """uint8 images as the library takes them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(np.array(images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


class Quantised(nn.Module):
    """The generator's images as the library takes them."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.generator(2.0 * latents).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def test_scores_are_the_librarys_own(score, extractor: Extractor, digits, protocol) -> None:
    """Bit for bit what calculate_metrics gives, with none of its options at its default."""

    class Registered(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_) -> None:
            super().__init__(name, features_list)
            self.network = extractor.load()

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = dict(zip(("pool", "logits"), self.network(images), strict=True))
            return tuple(found[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "pool", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "pool"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    register_feature_extractor("test-classifier", Registered)
    changed = {"kid_subsets": 4, "kid_subset_size": 300, "inception_splits": 7, "nearest_neighbours": 5}
    odd = replace(protocol, **changed, latent_seed=3, num_generated=600)
    noisy = digits.images("train")[:600] + np.random.default_rng(0).normal(0, 20, (600, 1, 28, 28))
    fakes = noisy.clip(0, 255).round().astype(np.uint8)
    options = {
        "input2": Images(digits.images("reference")[:1000]),
        "feature_extractor": "test-classifier",
        "isc": True,
        "fid": True,
        "kid": True,
        "prc": True,
        "isc_splits": 7,
        "kid_subsets": 4,
        "kid_subset_size": 300,
        "kid_kernel_poly_gamma": odd.kid_gamma,
        "prc_neighborhood": 5,
        "rng_seed": 3,
        "batch_size": 250,
        "save_cpu_ram": True,
        "cuda": False,
        "verbose": False,
    }
    made = GenerativeModelModuleWrapper(Quantised(small_generator()), 8, "normal", 0)
    for theirs, ours in (
        (calculate_metrics(input1=Images(fakes), **options), score(Fixed(fakes), protocol=odd)),
        (
            calculate_metrics(input1=made, input1_model_num_samples=600, **options),
            score(small_generator(), protocol=odd, latent_std=2.0),
        ),
    ):
        assert {name: ours[name] for name in SCORES.values()} == {
            name: theirs[library] for library, name in SCORES.items()
        }
    fid_alone = {"isc": False, "kid": False, "prc": False}
    quarter, half = (calculate_metrics(input1=Images(fakes[:n]), **options | fid_alone) for n in (150, 300))
    parts = score(Fixed(fakes), protocol=odd)
    assert parts["fid_at_150"] == pytest.approx(quarter["frechet_inception_distance"], rel=EIGENVALUE_ERROR)
    assert parts["fid_at_300"] == pytest.approx(half["frechet_inception_distance"], rel=EIGENVALUE_ERROR)


def test_real_images_are_scored_like_a_generator(score, extractor, digits, protocol, cache) -> None:
    real = prepare_reference(protocol, extractor, digits, cache)
    assert real.pop("num_images") == 1000
    scored = score(Fixed(digits.images("train")[:1000]))
    assert real == pytest.approx({k: scored[k] for k in real}, rel=1e-9)
    assert real["fid"] < 10 and abs(real["kid"]) < 0.02 and real["precision"] > 0.8 and real["is_mean"] > 8


def test_few_real_images_are_scored_against_more(extractor, protocol, cache) -> None:
    few = prepare("mnist-5k@100", resolution=28, channels=1, cache=cache)
    assert make_protocol(extractor, few, num_generated=1000) == protocol, "they are scored like the whole"
    real = prepare_reference(protocol, extractor, few, cache)
    assert real["num_images"] == 100 and np.isfinite(list(real.values())).all()


def test_more_noise_is_a_higher_fid_and_kid(score, digits) -> None:
    rng = np.random.default_rng(0)
    found = []
    for std in (0, 0.1, 0.3, 0.5):
        noisy = digits.images("train")[:1000] + rng.normal(0, 127.5 * std, (1000, 1, 28, 28))
        found.append(score(Fixed(noisy.clip(0, 255).round().astype(np.uint8))))
    for name, sign in (("fid", 1), ("kid", 1), ("recall", -1)):
        assert (np.diff([sign * s[name] for s in found]) > 0).all(), name


def test_online_fid_agrees_with_the_final_one(score, extractor, digits) -> None:
    fakes = digits.images("train")[:1000]
    reference = torch.from_numpy(np.array(digits.images("reference")[:1000]))
    online = OnlineFid(extractor, reference, latent_dim=8, latent_std=1.0, num_samples=1000)
    assert online(Fixed(fakes)) == pytest.approx(score(Fixed(fakes))["fid"], rel=1e-6)


def test_latent_scale_is_part_of_what_is_scored(score) -> None:
    generator = small_generator().eval()
    one, three = score(generator), score(generator, latent_std=3.0)
    assert one != three

    class Scaled(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return generator(3 * z)

    assert score(Scaled()) == three


def test_scoring_repeats_and_leaves_no_trace(score, extractor, digits) -> None:
    generator = small_generator().train()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    online = OnlineFid(extractor, torch.from_numpy(np.array(digits.images("reference"))), latent_dim=8, latent_std=1.0)
    assert score(generator) == score(generator)
    assert online(generator) == online(generator)
    assert generator.training
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_samples_that_are_not_finite_are_refused(score, extractor, digits) -> None:
    generator = small_generator()
    with torch.no_grad():
        next(generator.parameters())[0, 0] = float("nan")
    with pytest.raises(NonFiniteSamples, match="not finite"):
        score(generator)
    online = OnlineFid(extractor, torch.from_numpy(np.array(digits.images("reference"))), latent_dim=8, latent_std=1.0)
    assert online(generator) == float("inf")
    assert np.isfinite(online(small_generator())), "one bad call must not spoil the next"


def test_other_data_never_meets_old_features(extractor, digits, cache, score, tmp_path: Path) -> None:
    """The library caches by name; the name must follow the pixels."""
    first = make_protocol(extractor, digits, num_generated=1000)
    score(Fixed(digits.images("train")[:1000]))
    coloured = prepare("mnist-5k", resolution=20, channels=1, cache=tmp_path)
    other = make_protocol(extractor, coloured, num_generated=1000)
    assert other.reference_hash != first.reference_hash and other.protocol_id != first.protocol_id
    fakes = coloured.images("train")[:1000]
    by_hand = fid_by_hand(features(extractor, fakes), features(extractor, coloured.images("reference")[:1000]))
    found = score(Fixed(fakes), protocol=other, data=coloured)
    assert found["fid"] == pytest.approx(by_hand, rel=EIGENVALUE_ERROR)


class Malicious:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def flip_bits(path: Path) -> None:
    """Of eight bytes in the middle: a number at least becomes another by orders of magnitude."""
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 8)
    content[middle] = bytes(byte ^ 0xFF for byte in content[middle])
    path.write_bytes(content)


@pytest.fixture
def home(cache: Path, tmp_path: Path) -> Path:
    """A cache without features."""
    return Path(shutil.copytree(cache, tmp_path / "cache", ignore=shutil.ignore_patterns("features")))


def test_files_among_the_features_run_nothing(score, digits, home: Path, tmp_path: Path) -> None:
    """Nor do they change a score."""
    images, mark = digits.images("train")[:1000], tmp_path / "mark"
    clean = score(Fixed(images), cache=home)
    paths, checksums = (sorted((home / "features").glob(pattern)) for pattern in ("*.pt", "*.sha256"))
    assert len(paths) == len(checksums) == 4
    torch.save(Malicious(mark), tmp_path / "malicious.pt")
    torch.load(tmp_path / "malicious.pt", weights_only=False)
    assert mark.exists(), "it would run"
    mark.unlink()

    def plant(path: Path) -> None:
        shutil.copy(tmp_path / "malicious.pt", path)

    def truncate(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    for harms, without in (
        ((plant, truncate), False),
        ((flip_bits, plant), False),
        ((truncate, flip_bits), False),
        ((plant, truncate), True),
        ((truncate, plant), True),
    ):
        for harm, path, checksum in zip(cycle(harms), paths, checksums, strict=False):
            harm(path)
            if without:
                checksum.unlink()
        assert score(Fixed(images), cache=home) == clean
        assert not mark.exists()
        assert sorted((home / "features").glob("*.sha256")) == checksums


def test_a_pickle_with_a_checksum_is_not_run(
    score, digits, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # a common setting, which asks to run pickles
    mark = tmp_path / "mark"
    clean = score(Fixed(digits.images("train")[:1000]), cache=home)
    for path in (home / "features").glob("*.pt"):
        torch.save(Malicious(mark), path)
        path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    assert score(Fixed(digits.images("train")[:1000]), cache=home) == clean
    assert not mark.exists()


def test_features_are_read_where_they_were_written(score, digits, protocol, extractor, home: Path) -> None:
    """In the files that torch-fidelity's own cache wrote, which a run on another machine is given, too."""
    clean = score(Fixed(digits.images("train")[:1000]), cache=home)
    stem = home / "features" / f"{protocol.reference_hash}-1000-classifier-{extractor.weights_hash}"
    features, statistics = Path(f"{stem}-features-pool.pt"), Path(f"{stem}-stat-fid-pool.pt")
    kept = torch.load(features, weights_only=True)
    assert kept.shape == (1000, 64) and kept.dtype == torch.float64
    for path, content in ((features, kept * 2), (statistics, {"mu": np.zeros(64), "sigma": np.eye(64)})):
        torch.save(content, path)
        path.with_suffix(".sha256").unlink()
        found = score(Fixed(digits.images("train")[:1000]), cache=home)
        assert found != clean, f"{path.name} was not read"
    assert found["fid"] > 10 * clean["fid"] and found["recall"] != clean["recall"]


def test_subsets_are_scored_under_the_same_protocol(digits, extractor, cache, protocol) -> None:
    some = prepare("mnist-5k@100", resolution=28, channels=1, cache=cache)
    assert some.fingerprint != digits.fingerprint and len(some.images("train")) == 100
    assert make_protocol(extractor, some, num_generated=1000) == protocol


def test_bad_extractors_are_refused_in_one_line(digits, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown extractor 'clasifier' \\(did you mean 'classifier'"):
        prepare_extractor("clasifier", digits, tmp_path)
    with pytest.raises(UserError, match="has no labels"):
        prepare_extractor("classifier", replace(digits, num_classes=None), tmp_path)
