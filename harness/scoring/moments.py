"""Moments of real images' features from a file, as the field passes them around; FID alone can be made of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import UserError
from harness.files import checksum
from harness.scoring.extractors import PRETRAINED

MOMENTS = "moments"
"""What a protocol's reference is called that is a file of moments."""

OPTION, KIND = "--reference-moments", "inception-v3"
"""The program's option; and the only extractor whose moments are passed around. A file does not say whose it holds."""

ASYMMETRY = 1e-5
"""Relative difference up to which a covariance is symmetric: some are kept in single precision."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and covariance of features."""

    mu: np.ndarray  # (D,) float64
    sigma: np.ndarray  # (D, D) float64

    @property
    def hash(self) -> str:
        """16 hex digits of the numbers; a file that is packed otherwise has the same."""
        return checksum(self.mu.tobytes() + self.sigma.tobytes())[:16]


def read_moments(path: Path, extractor: str) -> Moments:
    """The arrays `mu` and `sigma` of an .npz file, as pytorch-fid and its successors write it.

    Args:
        path: The file.
        extractor: By which the samples are scored.

    Raises:
        UserError: not such a file, another extractor than Inception, or numbers that are no moments of its features.
    """
    named, width = f"{OPTION} {path}", PRETRAINED[KIND].dim
    if extractor != KIND:
        asked = f"the extractor {extractor!r}" if extractor else "the data's own extractor"
        raise UserError(f"{named} cannot be used with {asked}; moments are those of {KIND}: name it with --protocol")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = [file[name] for name in ("mu", "sigma")]
    except OSError as error:
        raise UserError(f"{named} cannot be read ({error.strerror or 'not an .npz file'})") from None
    except KeyError:
        raise UserError(f"{named} lacks the arrays mu and sigma; name a file that has both") from None
    except Exception:  # noqa: BLE001  a file that is damaged or something else trips zipfile, zlib and numpy over anything
        found = []
    if not found or any(array.dtype.kind not in "fiu" for array in found):
        raise UserError(f"{named} is not an .npz file of numbers; name one with the arrays mu and sigma")
    mu, sigma = (array.astype(np.float64) for array in found)
    if mu.shape != (width,) or sigma.shape != (width, width):
        found, wanted = f"mu of {_shape(mu)} and sigma of {_shape(sigma)}", f"{width} and {width}×{width}"
        raise UserError(f"{named} holds {found}; {KIND} has {width} features, so {wanted} are wanted")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise UserError(f"{named} holds values that are not finite; make the moments again from finite features")
    if abs(sigma - sigma.T).max() > ASYMMETRY * abs(sigma).max() or sigma.diagonal().min() < 0:
        raise UserError(f"{named}: sigma is no covariance: it is not symmetric, or some variance is negative")
    least, *_, most = np.linalg.eigvalsh(sigma)
    if least < -ASYMMETRY * most or most <= 0:
        what = f"its eigenvalues go from {least:.3g} to {most:.3g}, and none may be below 0, nor all be 0"
        raise UserError(f"{named}: sigma is no covariance: {what}")
    return Moments(mu=mu, sigma=sigma)


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "one number"
