"""The command, and what a sweep does with what it finds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import doctor
from runner.config import sweep_file
from runner.doctor import data
from runner.doctor.finding import Diagnosis, ok
from runner.planning import datasets
from tests.runner.conftest import MINIMAL
from trainables.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_the_catalog(place: Any, one: Any, tmp_path: Path) -> None:
    assert one(data.check, "data catalog").level == "ok"
    (tmp_path / "sweep.yaml").write_text(MINIMAL)
    [entry] = datasets.prepare(sweep_file.load(tmp_path / "sweep.yaml"), place.data)
    assert "1 dataset(s)" in one(data.check, "data catalog").what
    (place.data / entry.path).write_bytes(b"changed")
    found = one(data.check, "data catalog")
    assert found.level == "error"
    assert "isotherm data prepare" in found.fix


def test_the_command(place: Any, isotherm: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(MINIMAL)
    code, text = isotherm("doctor", "sweep.yaml", "--json")
    document = json.loads(text)
    assert code == 0
    assert document["ok"]
    checks = {finding["check"] for finding in document["findings"]}
    assert {"results", "memory", "Ray's token", "GPU", "PyTorch", "temperature", "MLflow", "data catalog"} <= checks
    assert all(finding["fix"] and finding["why"] for finding in document["findings"] if finding["level"] != "ok")


def test_errors_are_code_1_with_why_and_mend(place: Any, isotherm: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/" + 60 * "x")
    code, text = isotherm("doctor", "--fast")
    assert code == 1
    for part in ("error Ray's folder: RAY_TMPDIR has 61 characters", "why: ", "fix: choose one"):
        assert part in text


def test_a_sweep_refuses_what_would_surely_fail(place: Any, isotherm: Any, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(MINIMAL)
    monkeypatch.setenv("RAY_TMPDIR", "/" + 60 * "x")
    code, text = isotherm("sweep", "sweep.yaml")
    assert code == 2
    assert "doctor: Ray's folder" in text
    assert not list((tmp_path / "runs").iterdir()), "nothing was started"


def test_a_cluster_has_its_gpus_elsewhere(place: Any, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(MINIMAL.replace("device: cpu", "device: cuda\n  threads: 1024"))
    settings = sweep_file.load(tmp_path / "sweep.yaml").settings
    assert doctor.HostContext.of(settings).execution == settings.execution
    driver = doctor.HostContext.of(settings, cluster=True)
    assert (driver.execution.device, driver.execution.threads) == ("auto", "auto")


def test_warnings_refuse_nothing() -> None:
    warning = Diagnosis(check="a", level="warn", what="b", why="c", fix="d")
    doctor.refuse([ok("x", "fine"), warning])
    with pytest.raises(ConfigError) as raised:
        doctor.refuse([Diagnosis(check="a", level="error", what=f"{n}", why="c", fix="d") for n in range(2)])
    assert len(raised.value.problems) == 2


def test_the_fast_part_loads_neither_torch_nor_pandas(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom runner import doctor\ndoctor.examine(doctor.HostContext.of(None), fast=True)\n"
        "print(sorted({'torch', 'pandas', 'ray'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
