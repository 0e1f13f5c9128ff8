"""Speech: recordings, the authors' features, RAVDESS names, the bundled clip."""
