"""The picture of samples: what is drawn is read."""

import io

import numpy as np
import pytest
from PIL import Image

from harness.storage.samples import GRID, from_png, to_png


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_gives_its_samples_back(channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (GRID * GRID, channels, 5, 5), dtype=np.uint8)
    found = from_png(to_png(samples), 5)
    assert (found.reshape(len(samples), 5, 5, channels) == samples.transpose(0, 2, 3, 1)).all()
    assert found.ndim == (3 if channels == 1 else 4)


def test_samples_lie_two_pixels_apart() -> None:
    samples = np.full((64, 1, 5, 5), 255, np.uint8)
    with Image.open(io.BytesIO(to_png(samples))) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (54, 54) and sheet[:5, :5].all() and not sheet[:5, 5:7].any() and sheet[:5, 7:12].all()
