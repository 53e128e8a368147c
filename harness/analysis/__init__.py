"""From the store to answers: tables, statistics, figures, reports. Needs no Ray, no torch, no GPU."""
