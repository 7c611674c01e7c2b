"""One trial: data, models, budgets and training. Knows nothing of grids, and of Ray only in `tune_trainable`."""
