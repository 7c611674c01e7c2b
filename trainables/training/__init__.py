"""One trial's training: the step, the loop, its checkpoints, and the numbers that come out.

Nothing is re-exported here: `gate`, `bootstrap` and `metrics` are free of PyTorch and stay importable without it.
"""
