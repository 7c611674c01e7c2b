"""Measures what fits before a trial starts: the real step with the real shapes, in a process of its own."""
