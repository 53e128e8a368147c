"""Scores: feature extractors, torch-fidelity for the final ones, torchmetrics for the curve in training."""
