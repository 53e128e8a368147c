"""Scores of features that torch-fidelity does not have, each from its paper: of tensors, without networks or files."""

import torch
from torch import Tensor

NEAREST = 5
"""The k of density and coverage, as in their paper."""

ROWS = 1000
"""Rows of a matrix of distances that are in memory at once."""


def density_and_coverage(made: Tensor, real: Tensor, nearest: int = NEAREST) -> tuple[float, float]:
    """How densely samples lie among real images ↑, at least 0, and the share of real images that have one near ↑.

    Around each real image lies a ball that reaches to its `nearest`-th neighbour among the real ones. Density is the
    mean number of balls in which a sample lies, divided by `nearest`; samples like the real images have 1. Coverage is
    the share of balls in which some sample lies. Unlike precision, density counts in how many balls a sample lies, so
    that the wide ball of one outlier weighs little. Naeem et al. 2020, eq. 3 and 4.

    Args:
        made: (N, D) features of samples.
        real: (M, D) features of real images, M above `nearest`.
        nearest: Which neighbour, itself not counted.
    """
    radius = torch.cat([torch.cdist(rows, real).kthvalue(nearest + 1).values for rows in real.split(ROWS)])
    balls, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for rows in made.split(ROWS):
        inside = torch.cdist(rows, real) < radius
        balls += int(inside.sum())
        covered |= inside.any(0)
    return balls / (nearest * len(made)), covered.double().mean().item()


def memorization(made: Tensor, train: Tensor, unseen: Tensor) -> float:
    """The chance, from 0 to 1, that a sample lies nearer to a training image than a real image not trained on does.

    1/2 is to be expected of samples that are like real images; copies of training images have 1, and samples that are
    like no image 0. The statistic of Meehan et al. 2020 (eq. 2, in one cell) as a probability; ties count half.

    Args:
        made: (N, D) features of samples.
        train: (M, D) features of training images.
        unseen: (K, D) features of real images that were not trained on.
    """
    ours, theirs = (torch.cat([torch.cdist(r, train).min(1).values for r in x.split(ROWS)]) for x in (made, unseen))
    theirs = theirs.sort().values
    below, upto = (torch.searchsorted(theirs, ours, right=right) for right in (False, True))
    return 1 - (below + upto).double().mean().item() / (2 * len(theirs))


def modes_and_kl(classes: Tensor, counts: Tensor) -> tuple[int, float]:
    """How many classes some sample falls into ↑, and how far their shares are from those of real images ↓, in nats.

    The second is the Kullback-Leibler divergence of the samples' classes from the real images', of which each class has
    one more than was counted, so that it is finite. Srivastava et al. 2017 (VEEGAN), after Metz et al. 2017.

    Args:
        classes: (N,) of 0 to C - 1, as the classifier sees the samples.
        counts: (C,) how many real images it sees in each class.
    """
    here = torch.bincount(classes, minlength=len(counts)).double()
    share, real = here / here.sum(), (counts + 1).double() / (counts + 1).sum()
    return int((here > 0).sum()), torch.xlogy(share, share / real).sum().item()
