"""Scores: feature extractors, torch-fidelity for the final ones, torchmetrics for the curve in training."""

from harness.lean import lean_torchvision

lean_torchvision()  # before torch-fidelity imports it
