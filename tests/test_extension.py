"""A project's own routes and middleware: behind the same guard, and refused where they shadow."""

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_house import FULL, ROOT, Running, environment, give, loopbook, make_project
from starlette.websockets import WebSocketDisconnect

from loopbook import serving
from loopbook.project import paths
from loopbook.project.errors import ExtensionError
from loopbook.registry import tracking
from loopbook.serving import create_app, schemas

with warnings.catch_warnings():  # it wants the next httpx
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

HEAD = "from fastapi import APIRouter, FastAPI, Request\n"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The project's own settings, and not those of the repository that the tests are in."""
    for name in ("LOOPBOOK_PROJECT", *paths.Project(ROOT).environment()):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """Make the application of a project, without a champion, whose own module is this text."""
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def made(text: str | None, **options: Any):
        name = re.sub(r"\W", "_", f"{tmp_path.name}_{len(list(folder.glob('*.py')))}")
        if text is not None:
            (folder / f"{name}.py").write_text(HEAD + text)
            importlib.invalidate_caches()
        about = {"needs_keys": False, "quiet": True} | options
        return create_app(paths.Project(folder), extension_module=name, **about)

    return made


def adding(*lines: str) -> str:
    return "def extend(app):\n" + "".join(f"    {line}\n" for line in lines)


ROUTE = '@app.{method}("{path}")\n    async def own(request: Request): ...'


@pytest.mark.medium
@pytest.mark.parametrize(
    ("method", "path", "theirs"),
    [
        ("get", "/predict", "GET /predict"),
        ("post", "/admin/reload", "POST /admin/reload"),
        ("post", "/{action}", "POST /predict"),
        ("get", "/v2/models/mine", "GET /v2/models/{name}"),
        ("get", "/v2/models/{number:int}", "GET /v2/models/{name}"),
        ("get", "/{page:path}", "15 of loopbook's routes"),
        ("get", "/docs", "GET /docs"),
        ("get", "/openapi.json", "/openapi.json"),
        ("get", "/static-offline-docs/mine", "/static-offline-docs/{path:path}"),
    ],
)
def test_a_route_that_meets_one_of_ours_is_refused_at_the_start(extended, method, path, theirs):
    with pytest.raises(ExtensionError) as refused:
        extended(adding(ROUTE.format(method=method, path=path)))
    text = str(refused.value)
    assert f"{method.upper()} {path} meets loopbook's" in text
    assert theirs in text
    assert "Give your route a path of its own, such as /own/" in text


@pytest.mark.parametrize(
    "lines",
    [
        [
            "router = APIRouter(prefix='/predict')",
            "@router.post('/batch')",
            "def own(): ...",
            "app.include_router(router)",
        ],
        ["app.mount('/', FastAPI())"],
        [
            "@app.get('/{any}')",
            "def own(): ...",
            "app.router.routes.insert(0, app.router.routes.pop())",
        ],
    ],
)
def test_neither_a_router_nor_a_mount_nor_the_order_hides_that_a_route_shadows(extended, lines):
    with pytest.raises(ExtensionError, match="meets loopbook's"):
        extended(adding(*lines))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("method", "path"),
    [("delete", "/predict"), ("get", "/predictions"), ("get", "/own/{name}"), ("put", "/{any}")],
)
def test_another_method_or_another_path_is_no_shadow(extended, method, path):
    guard = extended(adding(ROUTE.format(method=method, path=path)))
    assert method in guard.app.openapi()["paths"][path]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def extend(app:\n", r"\.py:2: SyntaxError: .*Correct it and start the service again"),
        ("import nothing_of_this_name\n", r"\.py:2: ModuleNotFoundError: No module named"),
        ("raise ValueError('at import')\n", r"\.py:2: ValueError: at import\. Correct it"),
        (adding("{}['key']"), r"\.py:3: KeyError: 'key'\. Correct it"),
        (adding("raise SystemExit(3)"), r"\.py:3: SystemExit: 3"),
        ("", r"\.py: has no function extend\(app\)"),
        ("extend = 3\n", "'int' object is not callable"),
        (None, r"\.py: is missing\. Write it with a function extend\(app\); docs/how-to.md"),
        (adding("app.add_middleware(object)"), r"TypeError"),
        (adding("@app.get('/own')", "def own(a: Request, b: 'Nothing'): ..."), "Nothing"),
        (
            adding("@app.websocket('/own')", "async def own(socket): ..."),
            "/own is a WebSocket, which the guard cannot check",
        ),
        (
            adding("app.router.on_startup.append(print)"),
            "a handler of the event startup or shutdown would never be called",
        ),
    ],
)
def test_own_code_that_cannot_run_is_a_sentence_with_its_line(extended, text, sentence):
    with pytest.raises(ExtensionError, match=sentence) as refused:
        extended(text)
    assert "Traceback" not in str(refused.value)


OWN = adding(
    "@app.get('/own/double', tags=['own'])",
    "async def double(number: int) -> dict[str, int]:",
    "    'Twice the number.'",
    "    return {'double': 2 * number}",
    "@app.get('/own/broken')",
    "async def broken(): raise ValueError('a secret')",
)


@pytest.mark.medium
def test_an_own_route_stands_behind_the_same_guard(extended, capsys):
    with TestClient(extended(OWN, quiet=False), raise_server_exceptions=False) as client:
        answer = client.get("/own/double?number=4")
        assert answer.json() == {"double": 8}
        assert answer.headers["x-request-id"] in (text := capsys.readouterr().err)
        assert '"route":"/own/double"' in text
        wrong = client.get("/own/double?number=four")
        broken = client.get("/own/broken")
        missing = client.get("/own/nothing")
        counts = client.get("/metrics").text
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_value")
    assert wrong.json()["error"]["field"] == "query.number"
    assert "'four'" in wrong.json()["error"]["message"]
    assert (broken.status_code, broken.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in broken.text
    assert missing.json()["error"]["code"] == "no_such_page"
    assert 'loopbook_requests_total{method="GET",route="/own/double",status="200"} 1.0' in counts


@pytest.mark.medium
@pytest.mark.parametrize(
    ("path", "status"),
    [("/own", 401), ("/healthy", 401), ("/admin/own", 401), ("/health/own", 200)],
)
def test_an_own_route_needs_a_key_unless_it_is_about_health(extended, path, status):
    text = adding(f"@app.get('{path}')", "def own(): return 1")
    with TestClient(extended(text, needs_keys=True)) as client:
        assert client.get(path).status_code == status


@pytest.mark.medium
@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/predict", 405, "GET, POST"),
        ("HEAD", "/predict", 405, "GET, POST"),
        ("OPTIONS", "/v2/models/x/infer", 405, "POST"),
        ("DELETE", "/own/1", 405, "GET, PATCH"),
        ("GET", "/predict/", 404, None),
        ("GET", "/own/1/", 404, None),
        ("GET", "/static-offline-docs/none.js", 404, None),
    ],
)
def test_what_there_is_not_has_the_one_shape_and_a_wrong_method_is_told_the_right_ones(
    extended, method, path, status, allowed
):
    """It was told those of the first route alone; `/predict/` led to whatever Host was named."""
    own = ("get", "patch")
    routes = [f"@app.{m}('/own/{{n}}')\n    async def {m}(n: int): ..." for m in own]
    text = adding(*routes) + "\n"
    with TestClient(extended(text)) as client:
        answer = client.request(method, path, follow_redirects=False)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allowed)
    if method != "HEAD":
        code = {404: "no_such_page", 405: "wrong_method"}[status]
        assert answer.json()["error"]["code"] == code


def test_the_document_is_made_once_for_each_version(extended):
    """It takes some 40 ms, in which nobody else is answered."""
    app = extended("def extend(app): ...\n").app
    first = app.openapi()
    assert app.openapi() is first
    app.state.service.versions.current = SimpleNamespace(
        schemas=schemas.Schemas(app.state.service.contract, 10)
    )
    assert app.openapi() is not first
    assert app.openapi() == app.openapi()


def test_an_own_route_without_a_version_is_refused_as_ours_are(extended):
    text = "from loopbook.serving import predict_rows\n" + adding(
        "@app.get('/own')",
        "async def own(request: Request): return await predict_rows(request, [{}])",
    )
    with TestClient(extended(text)) as client:
        answer = client.get("/own")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


def test_the_document_has_own_routes_beside_ours(extended):
    """A model of the project's may have the name of one of ours."""
    text = "from pydantic import BaseModel\nclass Row(BaseModel):\n    mine: int\n" + adding(
        "@app.post('/own/row')", "def own(row: Row) -> Row: return row"
    )
    bare = extended("def extend(app): ...\n").app.openapi()
    with TestClient(extended(text + "\n")) as client:
        document = client.get("/openapi.json").json()
        assert "swagger" in client.get("/docs").text
    operation = document["paths"].pop("/own/row")["post"]
    schemas = document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/OwnRow"
    }
    assert list(schemas.pop("OwnRow")["properties"]) == ["mine"]
    error = operation["responses"]["422"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert operation["security"] == [{}, {"key": []}]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    assert document == bare


def test_a_websocket_is_refused_by_the_guard_too(extended):
    """A mounted application may hold one that the check at the start does not see."""
    text = adding(
        "inner = FastAPI()",
        "@inner.websocket('/socket')",
        "async def own(socket: WebSocket): await socket.accept()",
        "app.mount('/own', inner)",
    )
    text = f"from fastapi import WebSocket\n{text}"
    with (
        TestClient(extended(text)) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/own/socket"),
    ):
        pass


def test_a_projects_package_holds_no_own_route_until_somebody_writes_one(extended):
    text = (ROOT / "serving/routes.py").read_text()
    assert extended(text.split('"""', 2)[2]).app.openapi()["paths"].keys() == (
        create_app(paths.current(), needs_keys=False).app.openapi()["paths"].keys()
    )


@pytest.mark.medium
def test_scoring_and_the_store_of_keys_need_no_web_framework():
    code = (
        "import sys, loopbook.serving.scoring, loopbook.serving.api_keys\n"
        "assert not {'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "from loopbook.serving import Refusal, create_app, predict_rows, run\n"
        "assert 'fastapi' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        serving.nothing  # noqa: B018


def example() -> str:
    """The file that docs/how-to.md shows."""
    text = (ROOT / "docs/how-to.md").read_text()
    (code,) = re.findall(r"```python\n(\"\"\"This project's own routes.*?)```", text, re.DOTALL)
    return code


@pytest.mark.slow
def test_the_example_of_the_docs_answers_through_the_log(tmp_path):
    folder = make_project(tmp_path / "house")
    give(folder, 1, tracking.CHAMPION)
    (folder / "serving/routes.py").write_text(example())
    with Running(folder, "--require-keys") as service:
        made = loopbook(folder, "keys", "create", "a caller")
        key = {"headers": {"X-API-Key": made.stdout.splitlines()[0]}}
        offer = {"row": FULL, "asked": 1}
        assert service.http.post("/own/offer", json=offer).status_code == 401
        answer = service.http.post("/own/offer", json=offer, **key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-team"] == "pricing"
        ours = service.http.post("/predict", json=FULL, **key).json()
        assert answer.json()["predicted_price"] == ours["predicted_price"]
        assert answer.json()["above_prediction_pct"] == pytest.approx(-100, abs=0.1)
        truth = {"prediction_id": answer.json()["prediction_id"], "observed": 1}
        assert service.http.post("/feedback", json=truth, **key).status_code == 200
        for wrong in (offer | {"asked": 0}, offer | {"asked": "much"}, offer | {"row": {"x": 1}}):
            refused = service.http.post("/own/offer", json=wrong, **key)
            assert (refused.status_code, list(refused.json())) == (422, ["error"])
        assert "/own/offer" in service.http.get("/openapi.json", **key).json()["paths"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def extend(app):\n    1 / 0\n", "routes.py:2: ZeroDivisionError: division by zero."),
        ("def extend(app:\n", "routes.py:1: SyntaxError: "),
        (None, "serving/routes.py: is missing."),
        (
            "from contextlib import asynccontextmanager\n"
            "from fastapi import APIRouter\n"
            "@asynccontextmanager\n"
            "async def begun(app):\n    raise ValueError('no database')\n    yield\n"
            "def extend(app):\n    app.include_router(APIRouter(lifespan=begun))\n",
            "ValueError: no database",
        ),
    ],
)
def test_the_command_ends_with_a_sentence_where_own_code_raises(tmp_path, text, sentence):
    folder = make_project(tmp_path / "house")
    file: Path = folder / "serving/routes.py"
    file.unlink()
    if text is not None:
        file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "serving", "--port", "0"],
        cwd=folder,
        env=environment(folder),
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
