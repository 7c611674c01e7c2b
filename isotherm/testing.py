"""Checks of parts of one's own, each one line in a test, such as ``check_architecture("mine")``."""

from trainables.models.conformance import check_architecture
from trainables.tasks.conformance import check_task
from trainables.training.conformance import check_loss

__all__ = ["check_architecture", "check_loss", "check_task"]
