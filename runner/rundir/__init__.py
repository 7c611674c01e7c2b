"""A run directory: paths, lock, ledger, results."""
