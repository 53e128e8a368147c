"""The laboratory: specs, data, training, scoring, scheduling and analysis of GAN trials."""
