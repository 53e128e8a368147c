"""The picture of a trial's samples: a grid of them, GAP pixels apart, as PNG."""

import io

import numpy as np
from PIL import Image

GRID = 8
"""Samples along each side."""

GAP = 2
"""Pixels between two samples."""


def to_png(samples: np.ndarray, columns: int = GRID) -> bytes:
    """The picture of (n, channels, side, side) uint8 samples, line by line: GRID² in a trial's own."""
    channels, side = samples.shape[1:3]
    step, rows = side + GAP, -(-len(samples) // columns)
    sheet = np.zeros((rows * step - GAP, columns * step - GAP, channels), dtype=np.uint8)
    for i, sample in enumerate(samples):
        top, left = i // columns * step, i % columns * step
        sheet[top : top + side, left : left + side] = sample.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(buffer, format="PNG")
    return buffer.getvalue()


def from_png(png: bytes, side: int) -> np.ndarray:
    """The samples of `side` pixels in a picture: (n, side, side) or (n, side, side, 3) uint8, line by line."""
    with Image.open(io.BytesIO(png)) as picture:
        sheet = np.asarray(picture)
    step = side + GAP
    return np.stack(
        [
            sheet[top : top + side, left : left + side]
            for top in range(0, sheet.shape[0] - side + 1, step)
            for left in range(0, sheet.shape[1] - side + 1, step)
        ]
    )


def picture_bytes(side: int, channels: int) -> int:
    """About how much room a picture of samples of this side takes on disk, at most."""
    return (GRID * (side + GAP)) ** 2 * channels
