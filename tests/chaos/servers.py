"""Faults of servers: MLflow and S3 killed or cut off."""

import os
import select
import socket
import threading
import time

import psutil

from tests.chaos.fault import Fault
from tests.integration.workplace import Workplace, same
from tests.s3 import CREDENTIALS, S3Server
from tests.servers import MlflowServer, free_port


class MlflowDies(Fault):
    name, what = "mlflow", "an MLflow server that is not there at the start, then killed and started again"
    pause_s = (1.0, 4.0)  # its own start takes some seconds more
    lasts_s = (1.0, 5.0)

    def prepare(self) -> None:
        self.server = MlflowServer(self.place.folder.parent, free_port())
        url = f"tracking.mlflow.uri={self.server.url}"
        self.options = ("--set", url, "--set", "tracking.wandb=null")
        self._first = True

    def strike(self, driver: psutil.Process) -> bool:
        if not self._first:
            self.server.kill()
        self._first = False
        return True

    def heal(self) -> None:
        self.server.start()

    def finish(self) -> None:
        self.place.run("sync", "small")
        check_mlflow(self.place, self.server.url)

    def clean_up(self) -> None:
        self.server.kill()


class MlflowIsCutOff(MlflowDies):
    name, what = "network", "a network to the MLflow server that drops or delays every connection by 10 s"
    lasts_s = (2.0, 6.0)

    def prepare(self) -> None:
        super().prepare()
        self.server.start()
        self.proxy = Proxy(self.server.port)
        self.options = ("--set", f"tracking.mlflow.uri=http://127.0.0.1:{self.proxy.port}", *self.options[2:])

    def strike(self, driver: psutil.Process) -> bool:
        self.proxy.mode = self.rng.choice(["drop", "delay"])
        return True

    def heal(self) -> None:
        self.proxy.mode = "pass"

    def clean_up(self) -> None:
        super().clean_up()
        self.proxy.close()


class StorageDies(Fault):
    name, what = "storage", "an S3 server that is killed, and comes back empty"
    lasts_s = (1.0, 5.0)

    def prepare(self) -> None:
        os.environ.update(CREDENTIALS)
        self.server = S3Server(self.place.folder.parent)
        self.options = ("--no-tracking", "--set", f"storage_path={self.server.uri}")

    def strike(self, driver: psutil.Process) -> bool:
        self.server.kill()
        return True

    def heal(self) -> None:
        self.server.start()

    def finish(self) -> None:
        """A machine that has nothing but the sweep file and the storage knows everything."""
        other = Workplace(self.place.folder.parent / "other")
        other.folder.mkdir()
        other.write((self.place.folder / "sweep.yaml").read_text())
        command = self.place.started[-1].args
        assert isinstance(command, list)
        assert "nothing to run" in other.run(*command[3:]).stdout
        same(self.place.results(), other.results())

    def clean_up(self) -> None:
        self.server.kill()


class Proxy:
    """A TCP proxy on a free port that passes bytes on, delays every connection by 10 s, or drops them all."""

    DELAY_S = 10.0

    def __init__(self, target: int) -> None:
        self.mode, self._target = "pass", target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.mode == "delay":
            time.sleep(self.DELAY_S)
        with client:
            if self.mode == "drop":
                return
            try:
                with socket.create_connection(("127.0.0.1", self._target), timeout=5) as server:
                    self._pump(client, server)
            except OSError:
                return

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while self.mode != "drop":
            for ready in select.select(list(other), [], [], 0.2)[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                other[ready].sendall(data)


def check_mlflow(place: Workplace, url: str) -> None:
    """Every trial has one run, which is finished and holds every metric of the ledger."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("isotherm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_key = {run.data.tags["isotherm.key"]: run for run in runs if "isotherm.key" in run.data.tags}
    assert len(by_key) == len(runs) - 1, "one run a trial, and the sweep's own"
    assert {run.info.status for run in runs} == {"FINISHED"}
    expected: dict[str, set[int]] = {}
    for record in place.ledger():
        if record["kind"] == "metrics" and record["values"].get("val_loss") is not None:
            expected.setdefault(record["key"], set()).add(record["step"])
    for key, steps in expected.items():
        shown = [point.step for point in client.get_metric_history(by_key[key].info.run_id, "val_loss")]
        assert sorted(shown) == sorted(steps), key
