"""Training one GAN: losses, tricks and the loop. Knows nothing of scores or of Ray."""
