"""Where records go besides the ledger: MLflow and W&B, fed from the ledger alone."""
