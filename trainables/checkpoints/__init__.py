"""Checkpoints of trials: written, kept, found again."""
