"""Every metric of very many samples drawn from one set of images, for metrics.py: what draws share is computed once."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.special
import torch
from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """What samples are scored against, with everything that is the same for all of them."""

    features: np.ndarray
    memorized: np.ndarray
    logits: np.ndarray
    gamma: float

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean, root of the covariance, and its trace."""
        covariance = np.cov(self.features.T.astype(float))
        values, vectors = scipy.linalg.eigh(covariance)
        return self.features.mean(0, dtype=float), vectors * np.sqrt(values.clip(0)) @ vectors.T, np.trace(covariance)

    @cached_property
    def among(self) -> Tensor:
        """Distances of the reference images, each row in order."""
        x = torch.from_numpy(self.features)
        return torch.cdist(x, x).sort(1).values[:, :8]

    @cached_property
    def kernel(self) -> np.ndarray:
        """Of KID, among the reference images."""
        return (self.gamma * self.features @ self.features.T + 1) ** 3

    @cached_property
    def unseen(self) -> np.ndarray:
        """Distances of reference images to their nearest memorized one, in order."""
        return np.sort(nearest(self.features, self.memorized))


def nearest(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each row to the nearest of the others."""
    return torch.cdist(torch.from_numpy(x), torch.from_numpy(others)).min(1).values.numpy()


@dataclass(frozen=True)
class Population:
    """All images that a case draws from, and behind them the memorized; scores of many draws at once."""

    features: np.ndarray
    logits: np.ndarray
    reference: Reference

    @cached_property
    def distances(self) -> Tensor:
        """Among the samples."""
        x = torch.from_numpy(self.features)
        return torch.cdist(x, x)

    @cached_property
    def to_reference(self) -> Tensor:
        """Of samples (rows) to reference images."""
        return torch.cdist(torch.from_numpy(self.features), torch.from_numpy(self.reference.features))

    @cached_property
    def kernels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of KID: among the samples, its diagonal, and between samples and reference."""
        x, r = self.features, self.reference.features
        own = (self.reference.gamma * x @ x.T + 1) ** 3
        return own, own.diagonal().copy(), (self.reference.gamma * x @ r.T + 1) ** 3

    @cached_property
    def in_balls(self) -> tuple[np.ndarray, Tensor]:
        """Whether a sample is in some ball of 3 neighbours; in which of 5."""
        among = self.reference.among
        return (self.to_reference < among[:, 3]).any(1).numpy(), self.to_reference < among[:, 5]

    @cached_property
    def closeness(self) -> np.ndarray:
        """Chance that an unseen real image is farther from the memorized than the sample is."""
        ours, theirs = nearest(self.features, self.reference.memorized), self.reference.unseen
        below, upto = (np.searchsorted(theirs, ours, side) for side in ("left", "right"))
        return 1 - (below + upto) / (2 * len(theirs))

    def fid(self, rows: np.ndarray) -> np.ndarray:
        """By the reference's moments."""
        mean, root, trace = self.reference.moments
        return np.array([fid(self.features[r].astype(float), mean, root, trace) for r in rows])

    def kid(self, rows: np.ndarray) -> np.ndarray:
        """Of all images at once, over pairs of different ones: an image that was drawn twice is not like itself."""
        own, diagonal, cross = self.kernels
        times = np.stack([np.bincount(r, minlength=len(own)) for r in rows]).astype(np.float32)
        theirs, other = self.reference.kernel, len(self.reference.kernel)
        pairs = rows.shape[1] ** 2 - np.square(times).sum(1)
        among = (((times @ own) * times).sum(1, dtype=float) - np.square(times) @ diagonal) / pairs
        real = (theirs.sum(dtype=float) - np.trace(theirs)) / (other * (other - 1))
        return among + real - 2 * (times @ cross.mean(1)) / rows.shape[1]

    def precision(self, rows: np.ndarray) -> np.ndarray:
        """Share of samples in some ball."""
        return self.in_balls[0][rows].mean(1)

    def density(self, rows: np.ndarray) -> np.ndarray:
        """Balls a sample lies in, of those of 5 neighbours."""
        return self.in_balls[1].sum(1).numpy()[rows].mean(1) / 5

    def coverage(self, rows: np.ndarray) -> np.ndarray:
        """Share of balls with a sample in them."""
        return np.array([self.in_balls[1][np.unique(r)].any(0).double().mean().item() for r in rows])

    def recall(self, rows: np.ndarray) -> np.ndarray:
        """Of the distinct images drawn: copies would have balls of radius 0."""
        found = []
        for r in rows:
            distinct = torch.from_numpy(np.unique(r))
            radius = self.distances[distinct][:, distinct].kthvalue(4, dim=1).values
            found.append((self.to_reference[distinct] < radius[:, None]).any(0).double().mean().item())
        return np.array(found)

    def memorization(self, rows: np.ndarray) -> np.ndarray:
        """As harness.scoring.features has it."""
        return self.closeness[rows].mean(1)

    @cached_property
    def shares(self) -> np.ndarray:
        """Of the classes, for each sample."""
        return scipy.special.softmax(self.logits.astype(float), axis=1)

    def is_mean(self, rows: np.ndarray) -> np.ndarray:
        """Over ten parts, as the library."""
        found = []
        for r in rows:
            parts = [self.shares[part] for part in np.array_split(r, 10)]
            found.append(np.mean([np.exp(scipy.special.rel_entr(p, p.mean(0)).sum(1).mean()) for p in parts]))
        return np.array(found)

    def _classes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number, seen = self.logits.shape[1], self.logits.argmax(1)
        here = np.stack([np.bincount(seen[r], minlength=number) for r in rows])
        return here, np.bincount(self.reference.logits.argmax(1), minlength=number) + 1

    def modes(self, rows: np.ndarray) -> np.ndarray:
        """Classes seen."""
        return (self._classes(rows)[0] > 0).sum(1).astype(float)

    def mode_kl(self, rows: np.ndarray) -> np.ndarray:
        """As harness.scoring.features has it."""
        here, real = self._classes(rows)
        return scipy.special.rel_entr(here / here.sum(1, keepdims=True), real / real.sum()).sum(1)


def fid(x: np.ndarray, mean: np.ndarray, root: np.ndarray, trace: float) -> float:
    """Heusel et al. 2017, eq. 6. Of fewer samples than features, by the smaller of two matrices with the same roots."""
    centred = (x - x.mean(0)) / math.sqrt(len(x) - 1)
    moved = centred @ root
    gram = moved @ moved.T if len(x) < x.shape[1] else moved.T @ moved
    cross = np.sqrt(scipy.linalg.eigvalsh(gram, check_finite=False, overwrite_a=True).clip(0)).sum()
    return float(((x.mean(0) - mean) ** 2).sum() + trace + np.square(centred).sum() - 2 * cross)


ALL_METRICS = (
    *("fid", "kid", "is_mean", "precision", "recall", "density", "coverage", "memorization"),
    *("modes", "mode_kl"),
)
