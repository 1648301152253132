"""Models of other packages, built, loaded, and driven like the official video predictor."""
