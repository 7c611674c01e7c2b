"""The command: ``python -m benchmarks.gpu --out FOLDER``."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.gpu import harness
from benchmarks.gpu.stages import STAGES, Setting


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=harness.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-bench"), help="folder of results.json and the logs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tiny sizes, to test the stages")
    parser.add_argument("--only", nargs="+", choices=tuple(STAGES), metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--stage", choices=tuple(STAGES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage is None:
        return harness.run(given.out, given.device, given.only or list(STAGES))
    for row in STAGES[given.stage].run(Setting.of(given.device)):
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
