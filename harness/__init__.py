"""The laboratory: specs, data, training, scoring, storage, execution, analysis and reporting of GAN trials."""
