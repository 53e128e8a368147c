"""What people do with finished results: a trial and its generator, pictures, models for other programs, trackers."""
