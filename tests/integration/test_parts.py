"""A model of one's own in a real sweep: probed, trained by workers, stopped, resumed, reported; its file is carried."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.integration.workplace import SWEEP, Workplace, wait_for

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_architecture.py"
PLUGIN = ("--plugin", "tcn.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def own(workplace: Workplace) -> Workplace:
    """A workplace whose sweep asks for the example's architecture."""
    model = "model: {name: tcn, kernel: 5}\ntraining:"
    workplace.write(
        SWEEP.replace("training:", model).replace("[20k, 60k]", "[60k, 80k]").replace("epochs: 2", "epochs: 6")
    )
    shutil.copy(EXAMPLE, workplace.folder / "tcn.py")
    return workplace


def test_a_model_of_ones_own_is_probed_trained_stopped_resumed_and_reported(own: Workplace) -> None:
    refused = own.run("plan", "sweep.yaml", expect=2)
    assert "no architecture 'tcn' is registered" in refused.stderr
    own.run("debug", "sweep.yaml", "--budget", "60k", "--steps", "3", *PLUGIN)

    process = own.start("sweep", "sweep.yaml", "--no-tracking", *PLUGIN)
    wait_for(own.has_checkpoint, timeout=240)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=180) == 3, own.log()
    assert "resume with: isotherm sweep sweep.yaml --plugin tcn.py" in own.log()

    # The copy in the run directory is as good as the file, which another machine need not have.
    [copy] = (own.folder / "runs" / "small" / "plugins").glob("*_tcn.py")
    (own.folder / "tcn.py").unlink()
    own.run("sweep", "sweep.yaml", "--no-tracking", "--plugin", str(copy.relative_to(own.folder)), timeout=400)
    table = own.results()
    assert set(table["status"]) == {"finished"}
    assert set(table["model"]) == {"tcn"}
    assert (table["skill"] > 0).all()
    cells = [record for record in own.ledger() if record["kind"] == "cell" and record["cell_kind"] == "model"]
    assert {record["parts"][0]["name"] for record in cells} == {"tcn"}
    assert all(record["flop_per_window"] > 0 for record in cells)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "one text, one copy"

    # Without the plugin a run can be read; it cannot be changed under the same version.
    own.run("report", "small")
    assert f"--plugin runs/small/plugins/{copy.name}" in (own.folder / "runs" / "small" / "report.md").read_text()
    assert json.loads(own.run("status", "small", "--json").stdout)["counts"] == {"finished": 2}
    before = own.ledger()
    (own.folder / "tcn.py").write_text(EXAMPLE.read_text().replace("nn.GELU()", "nn.ReLU()"))
    changed = own.run("sweep", "sweep.yaml", "--no-tracking", *PLUGIN, expect=2)
    assert "the architecture 'tcn' (plugin tcn.py) was changed under version 1" in changed.stderr
    assert own.ledger() == before
