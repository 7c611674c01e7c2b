"""A dead driver's temporary files are removed by the next; a living one's stay."""

import os
import subprocess
import sys
from pathlib import Path

from runner.tune.scratch import YOUNG_S, Scratch

MADE = """\
import sys, time
from pathlib import Path
from runner.tune.scratch import Scratch
mine = Scratch(Path(sys.argv[1]))
print(mine.path, flush=True)
time.sleep(600)
"""


def made_elsewhere(base: Path) -> tuple[subprocess.Popen[str], Path]:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen([sys.executable, "-c", MADE, str(base)], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "session").mkdir()
    past = folder.stat().st_mtime - 2 * YOUNG_S
    os.utime(folder, (past, past))
    return process, folder


def test_only_what_a_dead_driver_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "somebody-elses").mkdir()
    process, other = made_elsewhere(tmp_path)
    try:
        first = Scratch(tmp_path)
        assert other.exists(), "its driver lives"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    second = Scratch(tmp_path)
    assert not other.exists()
    assert first.path.exists()
    first.close()
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]
