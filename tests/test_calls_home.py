"""Nothing calls home: build, service, monitoring, pages and JupyterLab ask for no name outside.

Each runs where there is nobody but this machine, and a resolver that writes down
what it is asked: see `watched`.
"""

import sys
from pathlib import Path

import pytest
from made_once import copied
from small_house import ROOT, environment
from watched import OF_PEOPLE, watched

from loopbook.project.paths import NO_TELEMETRY

pytestmark = pytest.mark.slow

# ONNX Runtime asks some seconds after its first session, so the service lives longer
LIVES_S = 25
MODEL = """
import sys, time, onnxruntime
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
time.sleep(float(sys.argv[1]))
"""
PAGES = """
import subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path
bin = Path(sys.executable).parent
servers = {
    8100: [sys.executable, "-m", "serving", "--quiet", "--port", "8100"],
    8101: [bin / "voila", "reports", "--port=8101"],
    8102: [bin / "jupyter", "lab", "--no-browser", "--port=8102", "--IdentityProvider.token=", "--allow-root"],
    8103: [bin / "mlflow", "ui", "--workers", "1", "--port", "8103"],
}
pages = {
    8100: ["/predict?size=1800&as_of=2015-03-01T00:00:00Z", "/docs", "/metrics"],
    8101: ["/", "/voila/render/1_overview.ipynb"],
    8102: ["/lab", "/api/contents/notebooks/01_ingest.ipynb", "/lab/api/update", "/lab/api/news", "/lab/api/extensions?refresh=1"],
    8103: ["/", "/api/2.0/mlflow/experiments/search?max_results=1"],
}
began, running = time.monotonic(), [subprocess.Popen(words) for words in servers.values()]
try:
    for port, paths in pages.items():
        for path in paths:
            while True:
                try:
                    status = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60).status
                except urllib.error.HTTPError as answered:
                    status = answered.code
                except OSError:
                    if time.monotonic() - began > 120:
                        raise
                    time.sleep(0.5)
                    continue
                print(port, path, status, flush=True)
                break
    time.sleep(max(0, LIVES - (time.monotonic() - began)))
finally:
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
""".replace("LIVES", str(LIVES_S))


def of_a_person(folder: Path, **more: str) -> dict[str, str]:
    """The environment of somebody who has set none of the variables that we set."""
    return {k: v for k, v in environment(folder, **more).items() if k not in NO_TELEMETRY}


def test_the_watch_sees_what_onnx_runtime_does_without_our_setting():
    """A name is looked up by C++, and an id of the machine is left at home."""
    command = [sys.executable, "-c", MODEL, str(LIVES_S)]
    seen = watched(command, Path("/"), of_a_person(ROOT))
    assert seen.done.returncode == 0, seen.done.stderr
    assert any("deviceid" in name for name in seen.at_home)
    assert {"mobile.events.data.microsoft.com"} <= seen.names
    ours = watched([*command[:3], "1"], Path("/"), of_a_person(ROOT) | NO_TELEMETRY)
    assert not ours.names
    assert not ours.at_home


def test_service_reports_lab_and_mlflow_ask_for_no_name_outside(one_version, tmp_path):
    folder = copied(one_version, tmp_path / "house")
    seen = watched([sys.executable, "-c", PAGES], folder, of_a_person(folder))
    assert seen.done.returncode == 0, seen.done.stderr[-3000:]
    answered = [line.split() for line in seen.done.stdout.splitlines() if line.startswith("810")]
    assert len(answered) == 12, seen.done.stdout
    assert {status for _, path, status in answered if "/lab/api" not in path} == {"200"}, answered
    assert not seen.names
    assert not {name for name in seen.at_home if not name.startswith(OF_PEOPLE)}
