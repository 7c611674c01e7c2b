"""A sweep on a cluster of two nodes that share a disk, one of which leaves: ``python -m tests.integration.two_nodes``.

The nodes are raylets on this host, made by Ray's own cluster for tests; everything else is what `isotherm sweep` runs.
"""

import functools
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runner.tune import environment

environment.prepare()  # before Ray is imported

import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from runner.config import sweep_file  # noqa: E402
from runner.planning import plan as planning  # noqa: E402
from runner.planning.record import record_start  # noqa: E402
from runner.rundir import lock, results  # noqa: E402
from runner.rundir.paths import DATA  # noqa: E402
from runner.rundir.recorder import Recorder  # noqa: E402
from runner.tune import drain as draining  # noqa: E402
from runner.tune.launch import Launch, run_rounds  # noqa: E402
from runner.tune.ray_watch import RayWatch  # noqa: E402

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}


def leave(cluster: Cluster, node: Any, checkpoints: Path) -> None:
    """Take a node away, without a farewell, once both trials have written a checkpoint."""
    while len({path.parent for path in checkpoints.glob("*/checkpoint-*")}) < 2:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


def main(*overrides: str) -> None:
    loaded = sweep_file.load(Path("sweep.yaml"), overrides, tracking=False)
    plan = planning.build(loaded)
    with lock.held(plan.paths), draining.begun(plan.paths.running, plan.ending.save_s) as drain:
        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
        nodes = [cluster.add_node(**NODE) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        drain.handle_signals()
        recorder = Recorder(plan.paths)
        record_start(loaded, plan, recorder)
        threading.Thread(target=leave, args=(cluster, nodes[1], plan.paths.checkpoints), daemon=True).start()
        run_rounds(
            Launch(
                cells=plan.grid.cells,
                device=plan.grid.device,
                paths=plan.paths,
                data_root=DATA,
                recorder=recorder,
                drain=drain,
                watch=RayWatch(()),
                callbacks=(),
                execution=loaded.settings.execution,
                make_gate=functools.partial(draining.FlagGate, drain.flag.absolute()),
            )
        )
        results.write(recorder.view, plan.paths)
        print("nodes alive:", sum(node["Alive"] for node in ray.nodes()))
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
