"""How much of a score is the classifier's own: several trainings alike score the same images. Writes the shipped one.

    python benchmarks/extractor.py [--seeds 8] [--write]

Each training (of another seed) scores sets of 2,000 images against the reference: real digits that it has not seen,
the same with noise, blurred, or with classes left out, and what generators of the study `noise` make at some stages of
their training. Printed: what each training gets right and costs, and the standard deviation over the trainings of each
set's log FID and of the log ratios of any two sets' FIDs. The latter is an error that all trials of a study share.

With --write, one of them becomes harness/scoring/shipped/mnist-5k.safetensors: the one whose log ratios are nearest, in
root mean square, to the trainings' median. All in one thread; some ten minutes. Another processor's training gives
another classifier, which is why one is shipped.
"""

import argparse
import tempfile
import time
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from harness.data import PreparedData, prepare
from harness.files import checksum, write_file
from harness.scoring.classifier import (
    Classifier,
    classifier_bytes,
    learned_from,
    train_classifier,
)
from harness.scoring.yardstick import SHIPPED, describe_classifier
from harness.training.loop import REPORT_POINTS, recalibrate_batch_norm, train
from studies.noise import NOISE

NOISES, BLURS, DROPPED = (10, 32, 96), (0.7, 1.2, 2.0), (1, 3)  # of 255; pixels; classes
STAGES = {  # arm, seed -> report points
    ("dc", 0): (4, 13, REPORT_POINTS),
    ("dc", 1): (REPORT_POINTS,),
    ("dc latent_dim=2", 0): (REPORT_POINTS,),
    ("fc", 0): (13, REPORT_POINTS),
    ("fc latent_std=0.3", 0): (REPORT_POINTS,),
    ("fc-bn", 0): (REPORT_POINTS,),
}


def altered_sets(data: PreparedData) -> dict[str, Tensor]:
    """Real images, and the same with a fault, mildest first. (2000, 1, 28, 28) uint8 each."""
    real, labels = torch.from_numpy(np.array(data.images("train"))), data.labels("train")
    numbers = np.random.RandomState(1)
    sets = {"real": real}
    for std in NOISES:
        noisy = real + torch.from_numpy(numbers.normal(0, std, real.shape))
        sets[f"noise {std}"] = noisy.clamp(0, 255).round().to(torch.uint8)
    for sigma in BLURS:
        sets[f"blur {sigma}"] = gaussian_blur(real.float(), [13, 13], [sigma, sigma]).round().to(torch.uint8)
    for number in DROPPED:
        kept = real[torch.from_numpy(labels >= number)]
        sets[f"{number} dropped"] = kept[torch.arange(len(real)) % len(kept)]
    return sets


def generated_sets(data: PreparedData) -> dict[str, Tensor]:
    """What generators make, (2000, 1, 28, 28) uint8 each."""
    real, sets = torch.from_numpy(np.array(data.images("train"))), {}
    specs = {(run.arm, run.spec.seed): run.spec for run in NOISE.at("laptop").runs(2, lambda *_: data.fingerprint)}
    for (arm, seed), points in STAGES.items():
        spec = specs[arm, seed]

        def keep(point: int, generator: nn.Module, arm=arm, points=points, spec=spec) -> dict[str, float]:
            if point in points:
                was_training = generator.training
                recalibrate_batch_norm(generator, spec)
                stream = torch.Generator().manual_seed(0)
                latents = torch.randn(len(real), spec.latent_dim, generator=stream) * spec.latent_std
                with torch.no_grad():
                    images = torch.cat([generator.eval()(part) for part in latents.split(250)])
                generator.train(was_training)
                kimg = spec.kimg * point / REPORT_POINTS
                name = f"{arm}, seed {spec.seed}, {kimg:.1f} kimg"
                sets[name] = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
            return {}

        train(spec, real, keep)
    return sets


def features_of(network: Classifier, images: Tensor) -> np.ndarray:
    """(N, 64) doubles."""
    with torch.no_grad():
        return torch.cat([network(part)[0] for part in images.split(250)]).numpy()


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017, eq. 6, with roots of symmetric matrices alone; torch-fidelity's to some 1e-5."""
    values, vectors = scipy.linalg.eigh(np.cov(a.T))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ np.cov(b.T) @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * cross)


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Bińkowski et al. 2018, over all images at once, gamma as in `make_protocol`."""
    gamma = 1 / (b.shape[1] * np.square(b).mean())
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in ((gamma * x @ x.T + 1) ** 3 for x in (a, b))]
    return float(sum(within) - 2 * ((gamma * a @ b.T + 1) ** 3).mean())


def ordered(values: dict[str, float]) -> bool:
    """Whether a worse fault scores worse, from real images on."""
    ladders = (
        ["real", *(f"noise {std}" for std in NOISES)],
        ["real", *(f"blur {sigma}" for sigma in BLURS)],
        ["real", *(f"{number} dropped" for number in DROPPED)],
    )
    return all(values[a] < values[b] for ladder in ladders for a, b in pairwise(ladder))


def main() -> None:
    """Train, score, compare, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="trainings")
    parser.add_argument("--write", action="store_true", help="ship the one nearest to the median")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare("mnist-5k", resolution=28, channels=1, cache=Path(folder))
        images, labels = (
            torch.from_numpy(np.array(part)) for part in (data.images("extractor"), data.labels("extractor"))
        )
        key = learned_from(images, labels)
        reference = torch.from_numpy(np.array(data.images("reference")))
        sets = altered_sets(data) | generated_sets(data)
        networks, found, kinds = [], [], []
        for seed in range(options.seeds):
            started = time.process_time()
            network = train_classifier(images, labels, int(data.num_classes or 0), seed)
            trained = time.process_time()
            real = features_of(network, reference)
            forward, values = time.process_time() - trained, np.linalg.eigvalsh(np.corrcoef(real.T))
            card = describe_classifier(network, data, key)
            made = {name: features_of(network, shown) for name, shown in sets.items()}
            fids, kids = ({name: score(x, real) for name, x in made.items()} for score in (fid, kid))
            networks.append((network, card))
            found.append([fids[name] for name in sets])
            kinds.append(abs(kids["real"]))
            print(
                f"seed {seed}: {card.accuracy:.2%} right, {(real.std(0) < 1e-6).sum()} features constant, effective "
                f"rank {values.sum() ** 2 / np.square(values).sum():.1f}, real images' FID {fids['real']:.3f} and KID "
                f"{kids['real']:.5f}, degrees in order: FID {ordered(fids)}, KID {ordered(kids)}; "
                f"{trained - started:.0f} s to train, {forward:.2f} s for 2,000 images",
                flush=True,
            )
        logs = np.log(found)
        print(f"\n{'':34}{'median FID':>10}  × real  sd of log FID")
        for name, column in zip(sets, logs.T, strict=True):
            times = np.exp(np.median(column - logs[:, 0]))
            print(f"{name:34}{np.exp(np.median(column)):>10.3f}{times:>8.1f}{column.std(ddof=1):>15.3f}")
        pairs = list(combinations(range(1, len(sets)), 2))  # of a fault or a generator: nobody compares with the floor
        ratios = np.stack([logs[:, a] - logs[:, b] for a, b in pairs], axis=1)
        made_first = list(sets).index(next(name for name in sets if "kimg" in name))
        spread = ratios.std(axis=0, ddof=1)
        for what, some in (
            ("any two sets", spread),
            ("two generators", spread[[a >= made_first and b >= made_first for a, b in pairs]]),
        ):
            print(
                f"sd of log ratios of {what}: root mean square {np.sqrt(np.square(some).mean()):.3f}, from "
                f"{some.min():.3f} to {some.max():.3f}"
            )
        apart = np.sqrt(np.square(ratios - np.median(ratios, axis=0)).mean(axis=1))
        print("from the median of the log ratios:", ", ".join(f"seed {seed} {x:.3f}" for seed, x in enumerate(apart)))
        network, card = networks[int(apart.argmin())]
        content = classifier_bytes(network, card)
        print(f"nearest: seed {apart.argmin()}, {len(content):,} bytes, hash {checksum(content)[:16]}")
        if options.write:
            SHIPPED.mkdir(exist_ok=True)
            write_file(SHIPPED / "mnist-5k.safetensors", content)
            print(f"wrote {SHIPPED / 'mnist-5k.safetensors'}")


if __name__ == "__main__":
    main()
