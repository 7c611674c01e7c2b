"""Trials under Ray Tune: the environment, the rounds, the drain and the live progress."""
