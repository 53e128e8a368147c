"""Running many trials: one trial end to end, Ray Tune over all of them, and the progress display."""
