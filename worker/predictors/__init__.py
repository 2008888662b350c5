"""Where predicted changes come from: a LightGBM model over bars, or the ``predictions`` document."""
