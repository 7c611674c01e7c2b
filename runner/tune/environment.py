"""Ray as a sweep needs it: settings that must stand in the environment before Ray is imported, and its start."""

import logging
import os
import warnings

from runner.device import Device

OBJECT_STORE_BYTES = 200 * 2**20  # trials exchange small dictionaries; their data is read from disk by each worker

# Why each is needed is written in docs/ray.md.
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # Ray's monitor ends the whole sweep where it kills one worker
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # Tune imports MLflow where it is installed
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers stay in the driver's current directory
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals drain the sweep: runner/tune/drain.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no second copy of every result in JSON, CSV and TensorBoard files
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # Tune's own snapshot is never read back
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def prepare() -> None:
    """Set Ray's and Tune's variables; must run before Ray is imported. What the user has set stays."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)


def start(device: Device) -> None:
    """Start Ray on this host, listening on the loopback address only."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ray.init(
            address="local",  # whatever RAY_ADDRESS says: a cluster is joined on purpose only
            num_cpus=device.count if device.kind == "cpu" else None,
            num_gpus=device.count if device.kind == "cuda" else 0,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
    for name in ("ray", "ray.tune"):  # a worker's death is told by us, in a line; its traceback is in the ledger
        logging.getLogger(name).setLevel(logging.CRITICAL)


def stop() -> None:
    """End this process's Ray and everything that it started."""
    import ray

    ray.shutdown()
