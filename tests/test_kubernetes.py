"""The manifests of deploy/kubernetes: rendered, held against Kubernetes' schemas and our files."""

import copy
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import program
from small_house import ROOT

HERE = ROOT / "deploy/kubernetes"
OVERLAYS = ("overlays/one-node", "overlays/team")
FOLDERS = (*OVERLAYS, "kserve", "seldon")
OLDEST, NEWEST = "1.34", "1.37"
# kinds of operators, which Kubernetes' own schemas do not have: where their pods are,
# and which keys beside a pod's are theirs
KSERVE = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}


@cache
def rendered(folder: str) -> list[dict]:
    """What `kubectl apply -k` would send for a folder."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", HERE / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(folder: str, kind: str, name: str = "") -> dict:
    items = [item for item in rendered(folder) if item["kind"] == kind]
    (found,) = [item for item in items if name in ("", item["metadata"]["name"])]
    return found


def pods(folder: str) -> dict[str, dict]:
    """The pod of each kind that starts one."""
    found = {}
    for item in rendered(folder):
        spec = item.get("spec", {})
        if item["kind"] == "Deployment":
            found["Deployment"] = spec["template"]["spec"]
        elif item["kind"] == "CronJob":
            found[item["metadata"]["name"]] = spec["jobTemplate"]["spec"]["template"]["spec"]
        elif item["kind"] == "InferenceService":
            own = spec["predictor"]
            assert own.keys() >= KSERVE
            found["InferenceService"] = {k: v for k, v in own.items() if k not in KSERVE}
        elif item["kind"] == "SeldonDeployment":
            found["SeldonDeployment"] = spec["predictors"][0]["componentSpecs"][0]["spec"]
    return found


def faults(manifests: list[dict], version: str) -> list[str]:
    """What kubernetes-validate says of them, with keys that nobody knows as faults."""
    found = []
    for manifest in manifests:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(error.message)
    return found


@pytest.mark.medium
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_each_folder_renders_keeps_kubernetes_strict_schema(folder, version):
    """An operator's kind is held by the pod in it."""
    wrapped = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
        for kind, pod in pods(folder).items()
    ]
    ours = [item for item in rendered(folder) if "." not in item["apiVersion"].split("/")[0]]
    native = [i for i in rendered(folder) if i["apiVersion"].split("/")[0].endswith("k8s.io")]
    assert faults([*ours, *native, *wrapped], version) == []
    misspelt = copy.deepcopy(wrapped[:1])
    misspelt[0]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True
    (said,) = faults(misspelt, version)
    assert "readOnlyRootFileSystem" in said


@pytest.mark.medium
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_pod_keeps_the_standard_restricted(folder):
    """Pod Security Standards: what the namespace enforces, so nothing of ours is refused there."""
    assert pods(folder)
    for pod in pods(folder).values():
        keeps_restricted(pod)


def keeps_restricted(pod: dict) -> None:
    own = pod["securityContext"]
    assert own["runAsNonRoot"]
    assert own["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"]
        assert container["resources"].keys() == {"requests", "limits"}
        assert re.search(r":\d+\.\d+", container["image"]), "an image of a version"


def test_the_namespace_enforces_what_the_pods_keep():
    for folder in OVERLAYS:
        labels = one(folder, "Namespace")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", FOLDERS)
def test_user_port_probes_and_volume_are_the_images_own(folder):
    for kind, pod in pods(folder).items():
        is_the_images(kind, pod)


def is_the_images(kind: str, pod: dict) -> None:
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert str(pod["securityContext"]["runAsUser"]) in re.findall(r"(?:--uid|USER) (\d+)", image)
    (container,) = pod["containers"]
    assert container["volumeMounts"][0] == {"name": "var", "mountPath": "/project/var"}
    assert "VOLUME /project/var" in image
    if "ports" not in container:
        assert kind in ("loopbook-loop", "loopbook-build")
        return
    port = container["ports"][0]
    assert f"EXPOSE {port['containerPort']}" in image
    routes = (ROOT / "docs/serving.md").read_text()
    for name in ("readinessProbe", "livenessProbe"):
        asked = container[name]["httpGet"]
        assert f"| `GET {asked['path']}` |" in routes
        assert asked["port"] in (port["name"], port["containerPort"])


def test_one_node_never_has_two_writers_of_one_sqlite_file():
    folder = "overlays/one-node"
    service = one(folder, "Deployment")["spec"]
    assert (service["replicas"], service["strategy"]) == (1, {"type": "Recreate"})
    assert one(folder, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert not [i for i in rendered(folder) if i["kind"] == "HorizontalPodAutoscaler"]


def test_a_team_has_replicas_that_share_what_the_loop_writes():
    folder = "overlays/team"
    assert "replicas" not in one(folder, "Deployment")["spec"], "the autoscaler says how many"
    assert one(folder, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2
    assert one(folder, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(folder).values():
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "loopbook-backends"}}]
    template = one(folder, "Deployment")["spec"]["template"]["metadata"]["labels"]
    wanted = one(folder, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= template.items()


def test_every_variable_of_the_secret_is_a_documented_setting():
    listed = set(re.findall(r"`([A-Z_]{8,})`", (ROOT / "docs/serving.md").read_text()))
    example = (HERE / "overlays/team/backends.env.example").read_text()
    named = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert (
        {"MLFLOW_TRACKING_URI", "LOOPBOOK_PREDICTION_LOG", "LOOPBOOK_LOG_SALT"} <= named <= listed
    )


def test_one_turn_runs_at_a_time_and_only_what_wants_a_person_fails_the_job(tmp_path):
    """The container's own shell, with a loop that ends with each outcome."""
    for folder in OVERLAYS:
        assert one(folder, "CronJob", "loopbook-loop")["spec"]["concurrencyPolicy"] == "Forbid"
        assert one(folder, "CronJob", "loopbook-build")["spec"]["suspend"]
    (container,) = pods("overlays/team")["loopbook-loop"]["containers"]
    stub = tmp_path / "loopbook"
    for code, wanted in {0: 0, 10: 0, 20: 0, 30: 30, 40: 40, 1: 1, 137: 137}.items():
        stub.write_text(f"#!/bin/sh\nprintf '%s ' \"$@\" > {tmp_path}/words\nexit {code}\n")
        stub.chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        words = [*container["command"], *container["args"]]
        done = subprocess.run(words, env={"PATH": path}, stdin=subprocess.DEVNULL)
        assert done.returncode == wanted
    service = one("overlays/team", "Service")
    address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    asked = f"loop --once --set loop_service={address} "
    assert (tmp_path / "words").read_text() == asked


def test_prometheus_finds_the_service_under_the_name_that_the_alerts_use():
    service, monitor = one("overlays/team", "Service"), one("overlays/team", "ServiceMonitor")
    labels, spec = service["metadata"]["labels"], monitor["spec"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels[spec["jobLabel"]] == "loopbook"
    assert 'up{job="loopbook"}' in (ROOT / "deploy/prometheus/alerts.yml").read_text()
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert f"| `GET {endpoint['path']}` |" in (ROOT / "docs/serving.md").read_text()
    assert endpoint["authorization"]["credentials"]["key"]
    # misspelt keys of the operator's kind, which no schema here has
    assert spec.keys() == {"jobLabel", "selector", "endpoints"}
    assert endpoint.keys() == {"port", "path", "interval", "authorization"}


def test_the_cluster_has_the_alerts_of_deploy_prometheus_and_no_others(tmp_path):
    kept = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    rule = one("overlays/one-node", "PrometheusRule")
    assert rule["spec"] == kept, "type `make alerts`, and commit what it writes"
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(rule["spec"]))
    promtool = program("promtool", "prometheus")
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_alerts_follows_an_edit_of_the_rules(tmp_path):
    for name in (
        "Makefile",
        "deploy/prometheus/alerts.yml",
        "deploy/kubernetes/monitoring/alerts.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    rules = tmp_path / "deploy/prometheus/alerts.yml"
    rules.write_text(rules.read_text().replace("{severity: page}", "{severity: wake}"))
    subprocess.run(["make", "alerts"], cwd=tmp_path, check=True, capture_output=True)
    written = tmp_path / "deploy/kubernetes/monitoring/alerts.yaml"
    assert yaml.safe_load(written.read_text())["spec"] == yaml.safe_load(rules.read_text())
    head = (HERE / "monitoring/alerts.yaml").read_text().split("spec:\n")[0]
    assert written.read_text().startswith(head)


def test_the_service_is_let_out_to_nothing_but_names_and_back_ends():
    """A default that denies, and policies that select pods which exist."""
    for folder in OVERLAYS:
        policies = [i["spec"] for i in rendered(folder) if i["kind"] == "NetworkPolicy"]
        assert any(
            p["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & p.keys()
            for p in policies
        )
        turn = one(folder, "CronJob", "loopbook-loop")["spec"]["jobTemplate"]["spec"]
        templates = [one(folder, "Deployment")["spec"]["template"], turn["template"]]
        labels = [template["metadata"]["labels"] for template in templates]
        for policy in policies:
            wanted = policy["podSelector"].get("matchLabels", {})
            assert any(wanted.items() <= pod.items() for pod in labels), wanted


def test_kserve_and_seldon_ask_the_container_and_not_something_between():
    predictor = one("kserve", "InferenceService")["spec"]["predictor"]
    assert predictor["containers"][0]["name"] == "kserve-container"
    spec = one("seldon", "SeldonDeployment")["spec"]
    (predictor,) = spec["predictors"]
    assert (spec["protocol"], predictor["annotations"]["seldon.io/no-engine"]) == ("v2", "true")
    graph, (container,) = predictor["graph"], pods("seldon")["SeldonDeployment"]["containers"]
    assert graph["name"] == container["name"]
    assert graph["endpoint"]["httpPort"] == container["ports"][0]["containerPort"]


def test_the_loop_prometheus_and_the_policies_find_the_pods_of_kserve_and_seldon_too():
    """By the labels that the base's Service selects, under the names that it has."""
    wanted = one("overlays/team", "Service")["spec"]["selector"]
    predictor = one("seldon", "SeldonDeployment")["spec"]["predictors"][0]
    for labels, kind, folder in (
        (one("kserve", "InferenceService")["metadata"]["labels"], "InferenceService", "kserve"),
        (predictor["componentSpecs"][0]["metadata"]["labels"], "SeldonDeployment", "seldon"),
    ):
        assert labels == wanted
        (container,) = pods(folder)[kind]["containers"]
        hosts = {item["name"]: item.get("value", "") for item in container["env"]}
        assert "loopbook" in hosts["LOOPBOOK_HOSTS"].split(",")
        assert container["ports"][0]["name"] == "http"
