"""Does a generator copy? Its stored samples against the training images, by distance in pixels."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.data import stored_images
from harness.storage.samples import from_png
from harness.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class NearestImages:
    """Some samples, the training image nearest to each, and how near they are."""

    samples: np.ndarray  # (n, H, W) or (n, H, W, 3) uint8, the ones nearest to a training image first
    nearest: np.ndarray  # likewise
    ratio: float
    """Median distance of samples to their nearest training image, over that of held-out real images. About 1 or above
    where nothing is copied; far below where training images are."""


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image the nearest one of a set.

    Args:
        images: (n, ...) uint8.
        among: (m, ...) uint8 of the same shape an image; read in blocks, so that it may be a memory map.

    Returns:
        (n,) index into `among` and (n,) root mean square difference of pixels, in grey levels of 0 to 255.
    """
    a = images.reshape(len(images), -1).astype(np.float32)
    best, index = np.full(len(a), np.inf, np.float32), np.zeros(len(a), np.int64)
    for start in range(0, len(among), 2000):
        b = np.asarray(among[start : start + 2000]).reshape(-1, a.shape[1]).astype(np.float32)
        squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
        found = squares.argmin(1)
        smaller = squares[np.arange(len(a)), found] < best
        best[smaller], index[smaller] = squares[smaller, found[smaller]], start + found[smaller]
    return index, np.sqrt(np.maximum(best, 0) / a.shape[1])


def of_trial(store: Store, trial_id: str) -> NearestImages | None:
    """The images nearest to a trial's stored samples; None where the samples or the prepared training data are gone."""
    spec = store.read_spec(trial_id)
    train = stored_images(store.cache, spec.data_fingerprint, "train")
    if train is None or not store.has_samples(trial_id):
        return None
    samples = _channels_first(from_png(store.read_samples(trial_id), spec.resolution))
    index, distance = nearest(samples, train)
    order = np.argsort(distance, kind="stable")
    return NearestImages(
        samples=_channels_last(samples[order]),
        nearest=_channels_last(np.asarray(train[index[order]])),
        ratio=float(np.median(distance) / _usual(store.cache, spec.data_fingerprint)),
    )


@lru_cache(maxsize=8)
def _usual(cache: Path, fingerprint: str) -> float:
    """Median distance of real images that were held out to their nearest training image."""
    held_out, train = (stored_images(cache, fingerprint, part) for part in ("reference", "train"))
    return float(np.median(nearest(held_out[:256], train)[1]))


def _channels_first(images: np.ndarray) -> np.ndarray:
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _channels_last(images: np.ndarray) -> np.ndarray:
    return images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
