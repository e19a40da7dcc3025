"""Sound: files, resampling, segments, separation, scores."""
