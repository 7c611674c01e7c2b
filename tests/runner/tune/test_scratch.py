"""A dead driver's temporary files are removed by the next; a living one's stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.tune.scratch import PREFIX, TUNE_PREFIX, YOUNG_S, Scratch

MADE = """\
import sys, time
from pathlib import Path
from runner.tune.scratch import Scratch
mine = Scratch(Path(sys.argv[1]), sys.argv[2])
print(mine.path, flush=True)
time.sleep(600)
"""


def made_elsewhere(base: Path, prefix: str) -> tuple[subprocess.Popen[str], Path]:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", MADE, str(base), prefix], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "session").mkdir()
    past = folder.stat().st_mtime - 2 * YOUNG_S
    os.utime(folder, (past, past))
    return process, folder


@pytest.mark.parametrize("prefix", [PREFIX, TUNE_PREFIX, ".tune-"])
def test_only_what_a_dead_driver_left_is_removed(tmp_path: Path, prefix: str) -> None:
    for name in ("somebody-elses", f"{prefix}without-a-lock"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    process, other = made_elsewhere(tmp_path, prefix)
    try:
        first = Scratch(tmp_path, prefix)
        assert other.exists(), "its driver lives"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    second = Scratch(tmp_path, prefix)
    assert not other.exists()
    assert first.path.exists()
    first.close()
    second.close()
    assert {path.name for path in tmp_path.iterdir()} == {"somebody-elses", f"{prefix}without-a-lock"}
