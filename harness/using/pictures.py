"""Pictures of a generator: samples side by side, and ways from one latent to another."""

import math

from harness.scoring.sampling import to_uint8
from harness.storage.samples import to_png
from harness.using.generator import TrainedGenerator


def sheet(generator: TrainedGenerator, number: int, seed: int, *, interpolate: bool = False) -> tuple[bytes, int]:
    """A PNG picture, about square, and how many samples are in it.

    Args:
        generator: Whose.
        number: How many samples; with `interpolate` as many as whole lines hold, at least 4.
        seed: Of the latents.
        interpolate: Whether each line leads from one latent to another.
    """
    columns = math.ceil(math.sqrt(number))
    if interpolate:
        images = to_uint8(generator.interpolate(max(1, number // columns), columns, seed)).cpu()
    else:
        images = generator.pictures(number, seed)
    return to_png(images.numpy(), columns), len(images)
