"""The cluster files, against Ray's own loader and against the fields that KubeRay's API reference names."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "cluster"
# KubeRay's API reference, ray.io/v1, as of 1.6.
FIELDS = {
    "RayJobSpec": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata clusterSelector "
    "submitterConfig managedBy deletionStrategy entrypoint runtimeEnvYAML jobId submissionMode entrypointResources "
    "entrypointNumCpus entrypointNumGpus ttlSecondsAfterFinished shutdownAfterJobFinishes suspend",
    "RayClusterSpec": "authOptions suspend managedBy autoscalerOptions headServiceAnnotations enableInTreeAutoscaling "
    "gcsFaultToleranceOptions headGroupSpec rayVersion workerGroupSpecs",
    "AutoscalerOptions": "resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env "
    "envFrom volumeMounts",
    "AuthOptions": "enableK8sTokenAuth secretName mode",
    "HeadGroupSpec": "template headService enableIngress rayStartParams serviceType",
    "WorkerGroupSpec": "suspend groupName replicas minReplicas maxReplicas idleTimeoutSeconds "
    "rayStartParams template scaleStrategy numOfHosts",
}


def known(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    assert set(given) <= set(FIELDS[kind].split()), kind
    return given


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / "kuberay-job.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    return known("RayJobSpec", document["spec"])


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in groups(job)]


def test_ray_up_loads_its_file() -> None:
    config = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    assert prepared["provider"]["worker_ips"]
    started = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert not [line for line in started if "--dashboard-host=0.0.0.0" in line]
    options = config["docker"]["run_options"]
    assert "--env RAY_memory_monitor_refresh_ms=0" in options
    assert "--volume /mnt/isotherm/cache:/work/cache" in options, "the probe's cache outlives the container"
    assert any(option.startswith("--stop-timeout=") for option in options)


def test_the_image_has_what_ray_up_calls_in_it(tmp_path: Path) -> None:
    """Files come with rsync through `docker exec`; commands run in login shells, whose PATH /etc/profile sets anew."""
    lines = (ROOT / "docker" / "Dockerfile").read_text()
    installed = re.search(r"apt-get install [^&]*?((?: [a-z][a-z-]+)+) \\\\?\n", lines)
    assert installed is not None
    assert {"tini", "wget", "rsync", "openssh-client"} <= set(installed[1].split())
    written = re.search(r"echo '(.+)' > /etc/profile\.d/isotherm\.sh", lines)
    assert written is not None
    profile = tmp_path / "profile"
    profile.write_text(f"PATH=/usr/bin:/bin\n{written[1]}\n")
    shown = subprocess.run(["sh", "-c", f". {profile}; echo $PATH"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("/opt/isotherm/bin:")


def test_a_stopped_job_drains_and_a_failed_one_starts_no_further_cluster(job: dict[str, Any]) -> None:
    assert job["backoffLimit"] == 0
    for pod in pods(job):
        environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert pod["terminationGracePeriodSeconds"] > int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60


def test_the_base_has_every_object_that_the_pods_name(job: dict[str, Any]) -> None:
    base = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    objects = [one for name in base["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())]
    named = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for pod in pods(job):
        assert ("ServiceAccount", pod["serviceAccountName"]) in named
        assert ("PriorityClass", pod["priorityClassName"]) in named
        assert "ephemeral-storage" in pod["containers"][0]["resources"]["limits"]
    labels = [group["template"]["metadata"]["labels"] for group in groups(job)]
    assert [one["isotherm"] for one in labels] == ["head", "worker"]
    policies = {one["kind"]: one["spec"] for one in objects if one["kind"] in ("NetworkPolicy", "PodDisruptionBudget")}
    assert policies["NetworkPolicy"]["podSelector"] == {"matchExpressions": [{"key": "isotherm", "operator": "Exists"}]}
    assert policies["PodDisruptionBudget"]["maxUnavailable"] == 0
    assert policies["NetworkPolicy"]["ingress"][-1]["ports"] == [{"port": "metrics"}]
    assert all({"name": "metrics", "containerPort": 8080} in pod["containers"][0]["ports"] for pod in pods(job))


def test_the_rayjob_has_only_known_fields(job: dict[str, Any]) -> None:
    cluster = known("RayClusterSpec", job["rayClusterSpec"])
    known("AutoscalerOptions", cluster["autoscalerOptions"])
    assert known("AuthOptions", cluster["authOptions"])["mode"] == "token"
    found = [known("HeadGroupSpec", cluster["headGroupSpec"])]
    found += [known("WorkerGroupSpec", group) for group in cluster["workerGroupSpecs"]]
    for group in found:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "KubeRay takes strings only"


def test_the_rayjob_runs_this_ray_and_this_command(job: dict[str, Any]) -> None:
    pinned = re.search(r'"ray\[tune\]==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert job["rayClusterSpec"]["rayVersion"] == pinned[1]
    words = shlex.split(job["entrypoint"])
    assert "isotherm sweep /etc/isotherm/sweep.yaml --address auto" in words[-1]


def test_workers_have_gpus_and_no_secrets_and_the_head_runs_no_trials(job: dict[str, Any]) -> None:
    head, worker = pods(job)
    assert job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "envFrom" not in worker["containers"][0], "only the driver talks to trackers"
    assert head["containers"][0]["envFrom"] == [{"secretRef": {"name": "isotherm-secrets", "optional": True}}]
    assert job["rayClusterSpec"]["workerGroupSpecs"][0]["minReplicas"] >= 1, "the probe needs one to measure on"


def test_every_pod_is_restricted_and_shares_the_storage(job: dict[str, Any]) -> None:
    claim = yaml.safe_load((FOLDER / "kuberay-storage.yaml").read_text())
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(job):
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounts.values()) <= set(volumes)
        for path in ("/work/runs", "/work/data", "/work/cache"):
            assert volumes[mounts[path]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert {"name": "RAY_memory_monitor_refresh_ms", "value": "0"} in container["env"]


def test_compose_binds_to_this_host_and_restricts_every_service() -> None:
    document = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    services = document["services"]
    assert set(services) == {"sweep", "sweep-cpu", "mlflow"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "mem_limit" in service
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    for name in ("sweep", "sweep-cpu"):
        given = services[name]["environment"]
        assert given["CUDA_VISIBLE_DEVICES"] is None, (
            "set inside only where it is set outside; empty would hide every GPU"
        )
        assert given["AWS_ACCESS_KEY_ID"] is None
        [key] = [one for one in services[name]["volumes"] if one["target"] == "/run/gcs.json"]
        assert key["source"] == "${GOOGLE_APPLICATION_CREDENTIALS:-/dev/null}"
        assert services[name]["restart"] == "${RESTART:-no}"
    assert services["mlflow"]["restart"] == "unless-stopped"
    [device] = services["sweep"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["sweep-cpu"]
    assert services["sweep"]["shm_size"] == "1g"
    assert services["sweep"]["stop_grace_period"] == "${GRACE:-30}s"
