"""Checks of parts of one's own, each one line in a test: ``check_architecture("mine")``."""

from trainables.models.conformance import check_architecture

__all__ = ["check_architecture"]
