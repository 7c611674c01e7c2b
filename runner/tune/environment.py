"""Ray as a sweep needs it: settings that must be in the environment before Ray is imported, and its start."""

import logging
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from runner.config.settings import RayEnvironment
from runner.host.device import Device
from runner.host.footprint import LONGEST_TEMP, OBJECT_STORE_BYTES
from runner.tune.ray_watch import RayWatch
from runner.tune.scratch import Scratch
from trainables.errors import ConfigError, Problem

SMALLEST_STORE_BYTES = 78 * 2**20  # Ray refuses less than 75 MiB
STORE_SHARE = 0.8  # of /dev/shm: where the store does not fit, Ray puts it on disk

# Why each is needed is written in docs/ray.md.
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # Ray's monitor ends the whole sweep where it kills one worker
    "RAY_automatic_object_spilling_enabled": "0",  # nothing large is kept there; a disk is not to fill unseen
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # other parts of Tune import MLflow where it is installed
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers stay in the driver's current directory
    "RAY_DEDUP_LOGS": "0",
    "RAY_prestart_worker_first_driver": "0",  # workers that no trial could use: those have a runtime environment
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would pack the current folder, `.env` included
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals drain the sweep: runner/tune/drain.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no second copy of every result in JSON, CSV and TensorBoard files
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # Tune's own snapshot is never read back
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_ON_ONE_HOST = {
    # Ray replaces 127.0.0.1 by the host's address, and then listens on all of them; this is what keeps it from that.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
# An address that does not answer is given up after some 20 s: 10 s for a connection and 10 s for an answer, in one try
# of 20 that Ray would make.
_ON_A_CLUSTER = {
    "RAY_gcs_server_port_wait_time_s": "1",
    "RAY_py_gcs_connect_timeout_s": "10",
}
# What workers on other nodes must have, too: they do not inherit the driver's environment.
_ON_EVERY_NODE = ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "MLFLOW_DISABLE_TELEMETRY")
_scratch: Scratch | None = None  # this sweep's own folder of Ray's sessions
_watch = RayWatch(())


def prepare(*, cluster: bool = False) -> None:
    """Set Ray's and Tune's variables; must run before Ray is imported. What the user has set stays.

    An existing cluster has addresses and a token of its own, which Ray finds where the user put it.
    """
    for name, value in (_VARIABLES | (_ON_A_CLUSTER if cluster else _ON_ONE_HOST)).items():
        os.environ.setdefault(name, value)
    if not cluster:
        _own_token()


def watch() -> RayWatch:
    """Of the Ray that was started or joined last."""
    return _watch


def start(device: Device) -> None:
    """Start Ray on this host, listening on the loopback address only, with a token and a folder of its own."""
    global _scratch, _watch
    import ray

    _scratch = Scratch(RayEnvironment().tmpdir or temp_base())
    _start_no_extras()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ray.init(
            address="local",  # whatever RAY_ADDRESS says: a cluster is joined on purpose only
            num_cpus=device.count if device.kind == "cpu" else None,
            num_gpus=device.count if device.kind == "cuda" else 0,
            object_store_memory=object_store_bytes(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(_scratch.sessions),
            job_config=_job(),
        )
    _watch = RayWatch.of_own(ray._private.worker._global_node)
    _copy_no_secrets()
    _count_no_callbacks()
    _quiet()


def join(address: str) -> None:
    """Connect to an existing cluster, from one of its nodes.

    Raises:
        ConfigError: there is none, it refuses us, or the address is Ray Client's.
    """
    if address.startswith("ray://"):
        raise _unreachable(address, "Ray Client would run the driver elsewhere, and the ledger with it")
    global _watch
    import ray

    carried = {name: _VARIABLES[name] for name in _ON_EVERY_NODE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": carried},  # no secret travels here
                job_config=_job(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _unreachable(address, " ".join(str(error).split())[:300]) from error
    _watch = RayWatch.of_node(ray._private.worker._global_node)
    _copy_no_secrets()
    _count_no_callbacks()
    _quiet()


def _unreachable(address: str, why: str) -> ConfigError:
    return ConfigError(
        Problem(
            place=f"--address {address}",
            message=f"no sweep can be driven from here: {why}",
            fix="run this on a node of the cluster with --address auto, with the cluster's token in "
            "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN; from outside: ray job submit (docs/cluster.md)",
        )
    )


def stop() -> None:
    """End this process's Ray and everything that it started. One that is lost is not asked: it would not answer."""
    import ray

    node = ray._private.worker._global_node
    started = _descendants(node)
    if _watch.dead():
        started += [*_own(node), *_writers()]
    else:
        _kill_at_once(node)
        ray.shutdown()
    for process in started:  # Ray's agents notice the end of the processes that started them a minute later
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if _scratch is not None:
        _scratch.close()


def kill() -> None:
    """End the Ray that this process started, and its workers, at once: a suspended worker would outlive the driver."""
    import ray

    node = ray._private.worker._global_node
    for process in (*_descendants(node), *_own(node)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def leave_lost_ray(code: int) -> None:
    """Where Ray is lost, end this process with that exit code, without Python's end: Ray's part of it would hang."""
    if _watch.lost:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _descendants(node: Any) -> list[psutil.Process]:
    """What Ray's own processes have started: agents and workers."""
    found: list[psutil.Process] = []
    for process in _own(node):
        with suppress(psutil.NoSuchProcess):
            found += process.children(recursive=True)
    return found


def _own(node: Any) -> Iterator[psutil.Process]:
    """Ray's own processes."""
    for started in node.all_processes.values() if node is not None else ():
        for one in started:
            with suppress(psutil.NoSuchProcess):
                yield psutil.Process(one.process.pid)


def _writers() -> Iterator[psutil.Process]:
    """Processes with their output in Ray's folder: workers that lost their raylet have no parent to know them by."""
    for process in psutil.process_iter():
        with suppress(OSError):  # another user's, or gone
            output = Path(os.readlink(f"/proc/{process.pid}/fd/1"))
            if _scratch is not None and output.is_relative_to(_scratch.path):
                yield process


def _kill_at_once(node: Any) -> None:
    """Have `ray.shutdown` kill Ray's processes, which do not hear SIGTERM (`drain.shielded`): it waits 1 s for each."""
    for started in node.all_processes.values() if node is not None else ():
        for one in started:
            one.process.terminate = one.process.kill


def temp_base() -> Path:
    """Where Ray's sessions go: the folder for temporary files, or /tmp where that path is too long for sockets."""
    base = Path(tempfile.gettempdir())
    return base if len(str(base)) <= LONGEST_TEMP else Path("/tmp")


def object_store_bytes(shm: Path = Path("/dev/shm")) -> int:
    """As much as is wanted and fits into shared memory, which in a container is 64 MB unless it is asked for."""
    try:
        free = shutil.disk_usage(shm).free
    except OSError:
        return OBJECT_STORE_BYTES
    return max(SMALLEST_STORE_BYTES, min(OBJECT_STORE_BYTES, int(STORE_SHARE * free)))


def _own_token() -> None:
    """Authenticate by a token that lives as long as this sweep, unless the user has set another way.

    Workers and Ray's own processes inherit it; it is written nowhere. Ray's default would be a file in HOME.
    """
    given = RayEnvironment()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if given.auth_token is None and given.auth_token_path is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _copy_no_secrets() -> None:
    """Keep Tune from copying AWS_* and more into the actors' runtime environment.

    Ray logs that environment in clear, and shows it on the command line of the process that sets a worker up. Workers
    on this host inherit the driver's environment; other nodes have their own.
    """
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE.intersection_update(_ON_EVERY_NODE)


def _count_no_callbacks() -> None:
    """Keep Tune from importing MLflow and W&B, which takes 2 s, to count callbacks for its usage statistics."""
    from ray.air._internal import usage

    usage.tag_callbacks = lambda callbacks: False


def _start_no_extras() -> None:
    """Keep Ray from starting what serves clusters alone: autoscaler, forwarding of logs, a dashboard without pages.

    They take 2 s of processor time, and Ray waits for the last. None can be left out by an argument of `ray.init`.
    """
    from ray._private.node import Node

    for part in ("start_monitor", "start_log_monitor", "start_api_server"):
        if hasattr(Node, part):
            setattr(Node, part, lambda *_, **__: None)


def _job() -> Any:
    """A job whose workers import installed packages only: Ray puts the driver's current folder first on their path."""
    from ray.job_config import JobConfig

    class InstalledOnly(JobConfig):  # type: ignore[misc]
        # `ray.init` extends this list: what it adds is lost.
        _py_driver_sys_path = property(lambda self: [], lambda self, paths: None)

    return InstalledOnly()


def _quiet() -> None:
    for name in ("ray", "ray.tune"):  # the driver reports a worker's death in one line; its traceback is in the ledger
        logging.getLogger(name).setLevel(logging.CRITICAL)
