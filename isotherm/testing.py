"""Checks of parts of one's own, each one line in a test: ``check_architecture("mine")``, ``check_loss("mine")``."""

from runner.thermal.conformance import check_sensor
from trainables.data.conformance import check_tier
from trainables.models.conformance import check_architecture
from trainables.training.conformance import check_loss

__all__ = ["check_architecture", "check_loss", "check_sensor", "check_tier"]
