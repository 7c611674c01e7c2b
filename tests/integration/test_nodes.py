"""A node that leaves the cluster gives its trials to the others."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import LONGER, Workplace, same

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_node_that_leaves_in_mid_trial_gives_it_to_the_other(workplace: Workplace, calm: pd.DataFrame) -> None:
    variables = workplace.environment()
    variables["PYTHONPATH"] = f"{ROOT}:{variables.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.two_nodes", *LONGER[1:-1:2]],
        cwd=workplace.folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nodes alive: 2" in done.stdout, "the head and the node that stayed"
    ended = [one["status"] for one in workplace.ledger() if one["kind"] == "ended"]
    assert sorted(ended) == ["failed", "finished", "finished"]
    assert workplace.attempts() == 3
    same(calm, workplace.results())
