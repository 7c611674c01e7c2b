"""Callbacks for any Ray Tune script, which show its trials in MLflow or W&B and can neither slow nor end it.

Example: ``tune.RunConfig(callbacks=[MlflowCallback(uri="http://127.0.0.1:5000", experiment="prices")])``
"""

from runner.tracking.callbacks import MlflowCallback, WandbCallback

__all__ = ["MlflowCallback", "WandbCallback"]
