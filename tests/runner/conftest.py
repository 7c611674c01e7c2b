"""A sweep file to change, and an empty working directory to be in."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """\
name: tiny
data:
  source: sp500
  tier: a20
task:
  kind: threshold
  context: 60
model:
  name: patchtst
  patch: 10
training:
  epochs: 1
  global_batch: 128
  lr: 1.0e-3
grid:
  budget: [20k]
  horizon: [1]
  seed: [0]
execution:
  device: cpu
thermal:
  require_sensors: false
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sweep_file(folder: Path) -> Callable[..., Path]:
    """Write a sweep file: the minimal one with texts replaced, or another text."""

    def write(*changes: tuple[str, str], text: str = MINIMAL, append: str = "") -> Path:
        for old, new in changes:
            assert old in text, f"{old!r} does not stand in the file"
            text = text.replace(old, new, 1)
        path = folder / "sweep.yaml"
        path.write_text(text + append)
        return path

    return write
