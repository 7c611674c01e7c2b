"""Columns of a result that differ between two runs of one trial; all others must not."""

TIMES = {"train_seconds", "evaluation_seconds", "samples_per_second", "peak_bytes", "data_wait_share"}
WAITS = {"held_seconds", "throttled_seconds"}
