"""An exported trial as MLflow serves it. MLflow copies this file into the model: torch and numpy are all that it needs.

Inputs are windows of features as presented (``config.json`` of the export): float64, (windows, bars, features). Answers
are probabilities of a binary task, (windows,), or of classes, (windows, classes); of values the predicted values.
"""

import json
from pathlib import Path
from typing import Any

import mlflow


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The program of an export."""

    def load_context(self, context: Any) -> None:
        """Load the program."""
        import torch  # where models are logged, nothing needs it

        folder = Path(context.artifacts["export"])
        self._config = json.loads((folder / "config.json").read_text())
        self._program = torch.export.load(folder / "model.pt2").module()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # MLflow reads type hints
        """Answers for windows."""
        import numpy as np
        import torch

        names = self._config["inputs"]
        given = [model_input] if len(names) == 1 else [model_input[name] for name in names]
        with torch.no_grad():
            outputs = self._program(*(torch.tensor(np.asarray(one), dtype=torch.float64) for one in given))
        if self._config["output"] == "logit":
            outputs = torch.sigmoid(outputs)
        elif self._config["output"] == "logits":
            outputs = torch.softmax(outputs, dim=1)
        return outputs.numpy()


mlflow.models.set_model(ServedModel())
