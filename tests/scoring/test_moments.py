"""FID against moments from a file, as the field passes them around."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

import architectures
from harness.errors import UserError
from harness.scoring.extractors import PRETRAINED, Extractor
from harness.scoring.fidelity import make_protocol, prepare_reference, score_generator
from harness.scoring.kept import keep_moments
from harness.scoring.moments import MOMENTS, read_moments
from harness.scoring.networks import feature_network
from harness.storage.layout import cache_folder

WIDTH = 12


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Inception of 12 features: tests of numbers need no more."""
    monkeypatch.setitem(PRETRAINED, "inception-v3", replace(PRETRAINED["inception-v3"], dim=WIDTH))


@pytest.fixture
def inception(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    """Its features are the classifier's first ones."""
    network = feature_network(extractor, "cpu")

    def first(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = network(images)
        return features[:, :WIDTH], logits

    monkeypatch.setattr("harness.scoring.fidelity.feature_network", lambda *_: first)
    return replace(extractor, name="inception-v3")


def write(path: Path, **changes: object) -> Path:
    numbers = np.random.RandomState(0).standard_normal((200, WIDTH)) * 4 + 1
    np.savez(path, **{"mu": numbers.mean(0), "sigma": np.cov(numbers.T), **changes})
    return path


def frechet(a: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, by scipy's root of a matrix."""
    root = scipy.linalg.sqrtm(np.cov(a.T) @ sigma)
    return float(np.square(a.mean(0) - mu).sum() + np.trace(np.cov(a.T) + sigma - 2 * np.real(root)))


def test_fid_from_moments_is_scipys(inception, digits, tmp_path: Path) -> None:
    moments = read_moments(write(tmp_path / "stats.npz"), "inception-v3")
    protocol = make_protocol(inception, digits, num_generated=300, moments=moments)
    keep_moments(protocol, inception, moments, tmp_path)
    real = prepare_reference(protocol, inception, digits, tmp_path)
    import harness.scoring.fidelity as fidelity

    images = torch.from_numpy(np.array(digits.images("train")[:300]))
    found = fidelity.feature_network(inception, "cpu")(images)[0].numpy()
    assert real["fid"] == pytest.approx(frechet(found, moments.mu, moments.sigma), rel=1e-6)
    assert real["fid_at_75"] == pytest.approx(frechet(found[:75], moments.mu, moments.sigma), rel=1e-6)
    assert real["is_mean"] > 1 and not real.keys() & {"kid", "precision", "recall", "density", "coverage"}
    generator = architectures.build("dc", resolution=28, channels=1, latent_dim=8, generator_width=4).generator
    options = {"protocol": protocol, "extractor": inception, "data": digits, "cache": tmp_path}
    scores = score_generator(generator, latent_dim=8, latent_std=1.0, **options)
    assert scores["fid"] > real["fid"] and "memorization" not in scores


def test_moments_are_part_of_the_protocol(inception, digits, tmp_path: Path) -> None:
    first = read_moments(write(tmp_path / "a.npz"), "inception-v3")
    again = read_moments(write(tmp_path / "b.npz"), "inception-v3")
    other = read_moments(write(tmp_path / "c.npz", mu=np.zeros(WIDTH)), "inception-v3")
    ids = [
        make_protocol(inception, digits, num_generated=300, moments=m).protocol_id for m in (None, first, again, other)
    ]
    assert ids[1] == ids[2] and len(set(ids)) == 3
    protocol = make_protocol(inception, digits, num_generated=300, moments=first)
    assert (protocol.reference, protocol.reference_hash) == (MOMENTS, first.hash)
    assert "300 generated against given moments" in protocol.describe() and first.hash[:8] in protocol.describe()
    assert protocol == type(protocol).from_dict(protocol.to_dict())


def test_moments_that_are_gone_are_told(inception, digits, tmp_path: Path) -> None:
    moments = read_moments(write(tmp_path / "stats.npz"), "inception-v3")
    protocol = make_protocol(inception, digits, num_generated=300, moments=moments)
    with pytest.raises(UserError, match="no longer in the cache"):
        prepare_reference(protocol, inception, digits, tmp_path)
    keep_moments(protocol, inception, moments, tmp_path)
    (kept,) = cache_folder(tmp_path, "features").glob("*.pt")
    assert kept.name.startswith(f"{moments.hash}-") and inception.weights_hash in kept.name, (
        "as the cluster looks for it"
    )


square = np.eye(WIDTH)
lopsided, negative, endless = square.copy(), -square, np.full(WIDTH, np.inf)
lopsided[0, 1] = 0.5
opposed = square.copy()  # of variances alone it could be one
opposed[0, 1] = opposed[1, 0] = 5


@pytest.mark.parametrize(
    ("changes", "extractor", "words"),
    [
        (
            {"mu": np.zeros(64), "sigma": np.eye(64)},
            "inception-v3",
            "holds mu of 64 and sigma of 64×64; inception-v3 has 12",
        ),
        (
            {"sigma": np.zeros(WIDTH)},
            "inception-v3",
            "sigma of 12; inception-v3 has 12 features, so 12 and 12×12 are wan",
        ),
        ({"mu": 3.0}, "inception-v3", "mu of one number"),
        ({"mu": endless}, "inception-v3", "values that are not finite"),
        ({"sigma": lopsided}, "inception-v3", "sigma is no covariance: it is not symmetric"),
        ({"sigma": negative}, "inception-v3", "or some variance is negative"),
        ({"sigma": opposed}, "inception-v3", "its eigenvalues go from -4 to 6, and none may be below 0"),
        ({"sigma": 0 * square}, "inception-v3", "its eigenvalues go from 0 to 0, .* nor all be 0"),
        ({"mu": np.ones(WIDTH) + 1j}, "inception-v3", "is not an .npz file of numbers"),
        ({"mu": np.array(["1.0"] * WIDTH)}, "inception-v3", "is not an .npz file of numbers"),
        ({"mu": np.ones(WIDTH, bool)}, "inception-v3", "is not an .npz file of numbers"),
        ({"mu": np.array([{}])}, "inception-v3", "is not an .npz file of numbers"),
        ({"mu": np.array(["x"] * WIDTH)}, "inception-v3", "is not an .npz file of numbers"),
        ({}, "classifier", "cannot be used with the extractor 'classifier'; moments are those of inception-v3"),
        ({}, "", "cannot be used with the data's own extractor"),
    ],
)
def test_moments_that_do_not_fit_are_refused(tmp_path: Path, changes: dict, extractor: str, words: str) -> None:
    path = write(tmp_path / "stats.npz", **changes)
    with pytest.raises(UserError, match=words) as caught:
        read_moments(path, extractor)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"--reference-moments {path}")


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut"])
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "stats.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"stats\.npz (cannot be read|is not an \.npz file)") as caught:
        read_moments(path, "inception-v3")
    assert "\n" not in str(caught.value)


def test_arrays_of_other_names_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mean=np.zeros(WIDTH))
    with pytest.raises(UserError, match="lacks the arrays mu and sigma"):
        read_moments(tmp_path / "stats.npz", "inception-v3")
    np.save(tmp_path / "one.npy", np.zeros(WIDTH))
    with pytest.raises(UserError, match="is not an .npz file"):
        read_moments(tmp_path / "one.npy", "inception-v3")


def _compressed(path: Path) -> None:
    np.savez_compressed(path, mu=np.random.RandomState(0).rand(WIDTH), sigma=np.eye(WIDTH))
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(byte ^ 0x5A for byte in content[60:120])
    path.write_bytes(bytes(content))


def _encrypted(path: Path) -> None:
    content = write(path).read_bytes()
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        parts = content.split(mark)
        content = mark.join(
            [parts[0], *(p[: flags - 4] + bytes([p[flags - 4] | 1]) + p[flags - 3 :] for p in parts[1:])]
        )
    path.write_bytes(content)


def _endless(path: Path) -> None:
    head = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(head, shape)
    with zipfile.ZipFile(path, "w") as file:
        for name in ("mu.npy", "sigma.npy"):
            file.writestr(name, head.getvalue())


@pytest.mark.parametrize("damage", [_compressed, _encrypted, _endless])
def test_damaged_archives_are_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(path := tmp_path / "stats.npz")
    with pytest.raises(UserError, match="is not an .npz file of numbers"):
        read_moments(path, "inception-v3")
