"""A challenge's side of things: predictions in files, smoothed over time, corrected for shifted priors, submitted."""
