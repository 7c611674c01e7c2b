"""Trackers that records go to in addition to the ledger: MLflow and W&B, fed from the ledger alone."""
