"""Many trials: settings, grid, ledger, Ray Tune, trackers and report."""
