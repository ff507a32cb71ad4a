"""The service as its callers meet it: over HTTP, with a small champion of its own."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import psutil
import pytest
from conftest import free_port, wait_for
from made_once import MANY_SIGNS, copied
from small_house import (
    FULL,
    ROOT,
    Running,
    answers,
    environment,
    give,
    loopbook,
    make_project,
    set_knobs,
)

from bench import swaps
from loopbook.data import prediction_log, sources, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.project import clock, contract, paths
from loopbook.registry import tracking


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The project's own settings, and not those of the repository that the tests are in."""
    for name in ("LOOPBOOK_PROJECT", *paths.Project(ROOT).environment()):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def house(two_versions, tmp_path_factory) -> Path:
    """A project with a champion and a challenger, which the service does not ask."""
    folder = copied(two_versions, tmp_path_factory.mktemp("serving") / MANY_SIGNS)
    return set_knobs(folder, serve_watch_s="0.3")


@pytest.fixture(scope="module")
def running(house):
    with Running(house) as service:
        yield service


def admin(folder: Path) -> dict[str, str]:
    made = loopbook(folder, "keys", "create", "tester", "--scope", "admin")
    return {"X-API-Key": made.stdout.splitlines()[0]}


pytestmark = pytest.mark.slow


def test_a_row_is_answered_by_names_and_by_aliases_alike(running):
    """As a query and as JSON, with what was imputed, and the very same number."""
    by_alias = running.http.get("/predict", params=FULL).json()
    assert set(by_alias) >= {"predicted_price", "prediction_id", "version", "as_of", "imputed"}
    named = {"sqft_living" if n == "size" else n: v for n, v in FULL.items()}
    by_name = running.http.post("/predict", json=named).json()
    assert by_name["predicted_price"] == by_alias["predicted_price"] > 0
    assert by_name["imputed"] == []
    little = running.http.get("/predict?size=1800&rooms=3").json()
    assert {"bathrooms", "zipcode", "lat"} <= set(little["imputed"])
    assert little["prediction_id"] != by_name["prediction_id"]


def test_a_batch_has_the_same_answers_in_the_same_order(running):
    rows = [FULL | {"size": size} for size in range(1000, 3000, 10)]
    many = running.http.post("/predict/batch", json={"rows": rows}).json()["predictions"]
    single = [running.http.post("/predict", json=row).json() for row in rows[:20]]
    assert [a["predicted_price"] for a in many[:20]] == [a["predicted_price"] for a in single]
    assert len({a["prediction_id"] for a in many}) == len(rows)


def test_the_service_computes_what_training_computed(running, house):
    """1,000 logged requests: every input that the model saw is the offline one, to the bit."""
    table = contract.read_contract(ROOT / "contract.yaml")
    known, _ = sources.known_by(
        sources.read_source(table, ROOT),
        datetime(2015, 3, 1, tzinfo=UTC),
        table,
        now=clock.utc_now(),
    )
    rows = validation.conform(validation.without_known_faults(known, table)[0], table)
    asked = rows.sample(1000, seed=3)
    at = datetime(2015, 3, 1, tzinfo=UTC)
    offline = history.with_history(
        asked.with_columns(pl.lit(at).cast(history.INSTANT).alias(clock.EVENT_TS)),
        history.facts(rows, table),
        table,
    )
    sent = asked.select(list(table.features)).to_dicts()
    body = {"rows": [r | {"as_of": at.isoformat(), "id": f"skew-{i}"} for i, r in enumerate(sent)]}
    body["rows"] = [r | {"date": "2015-03-01"} for r in body["rows"]]
    answers = running.http.post("/predict/batch", json=body).json()["predictions"]
    log = prediction_log.connect(paths.Project(house), table)
    logged = pl.concat(log.rows(since=at, until=at + timedelta(seconds=1)), how="diagonal")
    log.close()
    ids = pl.DataFrame({"id": [a["prediction_id"] for a in answers]})
    logged = ids.join(logged, on="id", how="left", maintain_order="left")
    names = row_features.input_names(table)
    card = Path(next((house / "var/mlflow").rglob("card.json"))).read_text()
    vocabulary = json.loads(card)["categories"]
    matrix = row_features.model_matrix(offline, table, vocabulary)
    seen = logged.select(f"feature_{n}" for n in names).fill_null(np.nan).to_numpy()
    np.testing.assert_array_equal(seen, matrix)


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ("", "missing_field", "sqft_living: is missing"),
        ("size=abc", "invalid_value", "size: found 'abc', expected a valid integer"),
        ("size=1800&colour=red", "unknown_field", "colour: is not a field of this model"),
        ("size=1800&size=1900", "given_twice", "size: stands more than once"),
        ("size=1800&sqft_living=1800", "given_twice", "is given by its name and by its alias"),
        ("size=nan", "invalid_value", "size: found 'nan', expected a value"),
        ("size=3.7", "invalid_value", "size: found '3.7', expected a valid integer"),
        ("size=1_800", "invalid_value", "size: found '1_800', expected a valid integer"),
        (
            "size=1800&as_of=9999-12-31T23:59:59-12:00",
            "invalid_value",
            "an instant of the years 1 to 9999",
        ),
        (
            "size=1800&as_of=1425168000",
            "invalid_value",
            "expected a day such as 2014-05-02 or an instant",
        ),
        ("size=1800&lat=inf", "invalid_value", "lat: found 'inf', expected a finite number"),
        ("size=" + "9" * 400, "invalid_value", "size: found '9999"),
        ("size=1800&zipcode=" + "9" * 300, "invalid_value", "at most 200 characters"),
        ("size=1800&as_of=yesterday", "invalid_value", "as_of: found 'yesterday'"),
        ("size=1800&explain=perhaps", "invalid_value", "explain: found 'perhaps'"),
        ("size=%FF", "broken_query", "the query cannot be read"),
        (
            "size=1800&neighbourhood=98%00",
            "invalid_value",
            "neighbourhood: found the character NUL",
        ),
        ("&".join(f"n{n}=1" for n in range(2_001)), "too_many_fields", "found 2,001 names"),
    ],
)
def test_a_refusal_says_which_field_what_was_found_and_what_is_expected(running, query, code, told):
    answer = running.http.get(f"/predict?{query}")
    assert answer.status_code in (400, 422)
    error = answer.json()["error"]
    assert error["code"] == code
    assert told in error["message"]
    assert set(error) == {"code", "message", "field", "hint", "details", "request_id"}


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("/predict", {"content": b'{"size": 18'}, 400, "broken_json"),
        ("/predict", {"content": b'{"size": NaN}'}, 400, "broken_json"),
        ("/predict", {"content": b"[1]"}, 422, "invalid_value"),
        ("/predict", {"content": b"a=1", "headers": {"Content-Type": "text/csv"}}, 415, "wrong_content_type"),
        ("/feedback", {"content": b'{"observed": 1}', "headers": {}}, 415, "wrong_content_type"),
        ("/feedback", {"content": b'{"observed": 1}', "headers": {"Content-Type": "text/plain"}}, 415, "wrong_content_type"),
        ("/predict", {"content": b"{}", "headers": {"Content-Type": "application/json; charset=latin-1"}}, 415, "wrong_content_type"),
        ("/predict", {"content": b"{}", "headers": {"Content-Type": "Application/JSON;charset=UTF-8"}}, 422, "missing_field"),
        ("/v2/models/house-prices/infer", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "wrong_content_type"),
        ("/v2/models/house-prices/infer", {"content": b'{"inputs": [], "inputs": []}'}, 422, "given_twice"),
        ("/predict", {"content": b'{"size": 1800, "\\u0073ize": 1900}'}, 422, "given_twice"),
        ("/predict", {"json": {"size": 1800, "neighbourhood": "98\x00"}}, 422, "invalid_value"),
        ("/feedback", {"json": {"key": {"id": "a\x00", "date": "b"}, "observed": 1}}, 422, "invalid_value"),
        ("/predict/batch", {"json": {"rows": []}}, 422, "wrong_batch_size"),
        ("/predict/batch", {"json": {"rows": [{"size": 1}] * 1001}}, 422, "wrong_batch_size"),
        ("/predict/batch", {"json": {"rows": [{"size": 1800}, {"size": None}]}}, 422, "invalid_value"),
        ("/predict/batch", {"json": [1]}, 422, "invalid_value"),
        ("/predict/batch", {"content": b" " * 2_000_001}, 413, "body_too_large"),
        ("/feedback", {"json": {"prediction_id": "none", "observed": 1}}, 404, "no_such_prediction"),
        ("/feedback", {"json": {"observed": 1}}, 422, "invalid_value"),
        ("/feedback", {"json": {"key": {"id": 1}, "observed": 1}}, 422, "invalid_value"),
        ("/v2/models/other/infer", {"json": {"inputs": []}}, 404, "no_such_model"),
        ("/nowhere", {"json": {}}, 404, "no_such_page"),
        ("/health/live", {"json": {}}, 405, "wrong_method"),
        ("/admin/reload", {"json": {}}, 401, "no_key"),
    ],
)  # fmt: skip
def test_every_error_has_one_shape(running, path, sent, status, code):
    sent = {"headers": {"Content-Type": "application/json"}} | sent
    answer = running.http.post(path, **sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "Traceback" not in answer.text


def test_what_is_unusual_is_answered_flagged_and_counted(running):
    odd = FULL | {"size": 90_000, "neighbourhood": "00000"}
    answer = running.http.post("/predict", json=odd).json()
    assert answer["out_of_range"] == ["sqft_living"]
    assert answer["unknown"] == ["zipcode"]
    assert answer["predicted_price"] > 0
    page = running.http.get("/metrics").text
    assert 'loopbook_out_of_range_total{feature="sqft_living"}' in page
    assert 'loopbook_unknown_category_total{feature="zipcode"}' in page
    assert 'loopbook_version_served{version="1"} 1.0' in page
    assert "loopbook_feature_age_seconds" in page


def test_contributions_add_up_to_the_answer(running):
    answer = running.http.post("/predict?explain=true", json=FULL).json()
    told = answer["explanation"]
    total = told["base"] + sum(c["contribution"] for c in told["contributions"])
    assert total == pytest.approx(answer["predicted_price"], rel=1e-6)
    large = running.http.post("/predict?explain=true", json=FULL | {"size": 5000}).json()
    part = [
        next(
            c["contribution"]
            for c in a["explanation"]["contributions"]
            if c["feature"] == "sqft_living"
        )
        for a in (answer, large)
    ]
    assert part[1] > part[0] + 100_000


def test_feedback_may_be_late_repeated_and_corrected(running, house):
    """By id and by key; the same again changes nothing, another value is a correction."""
    key = {"id": "truth-1", "date": "2015-03-01"}
    prediction_id = running.http.post("/predict", json=FULL | key).json()["prediction_id"]

    def tell(**truth):
        answer = running.http.post("/feedback", json={"truths": [truth]}).json()
        return answer["outcomes"]

    assert tell(prediction_id=prediction_id, observed=500_000) == ["accepted"]
    assert tell(prediction_id=prediction_id, observed=500_000) == ["unchanged"]
    assert tell(prediction_id=prediction_id, observed=510_000) == ["corrected"]
    assert tell(key=key, observed=520_000, known_at="2035-01-01T00:00:00Z") == ["accepted"]
    out = house / "log.parquet"
    done = loopbook(house, "log", "export", str(out))
    assert done.returncode == 0, done.stderr
    row = pl.read_parquet(out, glob=False).filter(id=prediction_id).row(0, named=True)
    assert row["observed"] == 520_000
    assert row["corrections"] == 2
    assert row["key"] == "truth-1|2015-03-01"
    mixed = [{"prediction_id": name, "observed": 530_000} for name in (prediction_id, "x")]
    answer = running.http.post("/feedback", json={"truths": mixed}).json()
    assert answer["outcomes"] == ["corrected", "unknown"]
    assert answer["known_at"] == ["2015-03-08T00:00:00+00:00", None]  # the label delay later


def test_feedback_that_the_target_cannot_be_is_set_aside_and_kept(running, house):
    prediction_id = running.http.post("/predict", json=FULL).json()["prediction_id"]
    truths = [{"prediction_id": prediction_id, "observed": value} for value in (-5, 1e308, 600_000)]
    answer = running.http.post("/feedback", json={"truths": truths}).json()
    assert answer["outcomes"] == ["set_aside", "set_aside", "accepted"]
    assert (answer["set_aside"], answer["accepted"]) == (2, 1)
    listed = json.loads(loopbook(house, "quarantine", "--json").stdout)
    kept = [row for row in listed if row["key"] == f"prediction {prediction_id}"]
    assert [row["origin"] for row in kept] == ["feedback", "feedback"]
    done = loopbook(house, "quarantine", "release", kept[0]["id"], kept[1]["id"])
    assert "Traceback" not in done.stderr
    assert "price has no logarithm" in done.stderr


def test_the_open_inference_protocol_with_a_real_client(running):
    """Triton's own client: health, metadata, inference; the numbers of /predict."""
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(url=f"127.0.0.1:{running.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("house-prices")
    metadata = client.get_model_metadata("house-prices")
    kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
    row = {n: v for n, v in FULL.items() if n != "as_of"}
    aliases = contract.read_contract(ROOT / "contract.yaml").aliases
    numpy_kinds = {"INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_, "BYTES": np.object_}
    tensors = []
    for name, value in row.items():
        kind = kinds[aliases.get(name, name)]
        tensor = triton.InferInput(name, [2], kind)
        tensor.set_data_from_numpy(np.array([value] * 2, numpy_kinds[kind]), binary_data=False)
        tensors.append(tensor)
    wanted = triton.InferRequestedOutput("prediction", binary_data=False)
    found = client.infer("house-prices", tensors, outputs=[wanted]).as_numpy("prediction")
    direct = running.http.post("/predict", json=row).json()["predicted_price"]
    assert found.tolist() == [direct, direct]
    client.close()


@pytest.mark.parametrize(
    ("client", "more", "headers"),
    [
        ("KServe", {"parameters": {}}, {"Content-Type": "application/json"}),
        ("Seldon", {}, {"Seldon-Puid": "p-1", "X-Forwarded-For": "10.0.0.9"}),
    ],
)
def test_requests_as_other_platforms_clients_write_them_are_answered(
    running, client, more, headers
):
    """Flat data with a shape, as KServe's InferRequest and Seldon's gateway send it."""
    ready = running.http.get("/v2/models/house-prices/ready")
    assert (ready.status_code, running.http.get("/v2/health/ready").status_code) == (200, 200)
    metadata = running.http.get("/v2/models/house-prices").json()["inputs"]
    kinds = {tensor["name"]: tensor["datatype"] for tensor in metadata}
    aliases = contract.read_contract(ROOT / "contract.yaml").aliases
    row = {name: FULL[name] for name in ("size", "rooms", "neighbourhood")}
    tensors = [
        {"name": n, "shape": [2], "datatype": kinds[aliases.get(n, n)], "data": [value, value]}
        for n, value in row.items()
    ]
    request = {"id": f"{client}-7", "inputs": tensors, **more}
    url = "/v2/models/house-prices/infer"
    answer = running.http.post(url, json=request, headers=headers).json()
    assert answer["id"] == f"{client}-7"
    assert answer["model_name"] == "house-prices"
    (output,) = [tensor for tensor in answer["outputs"] if tensor["name"] == "prediction"]
    direct = running.http.post("/predict", json=row).json()["predicted_price"]
    assert (output["shape"], output["data"]) == ([2], [direct, direct])


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.parametrize(
    ("seed", "phases"), [(1, "examples,coverage,fuzzing"), (2, "fuzzing"), (3, "fuzzing")]
)
def test_the_document_is_true_and_no_request_breaks_the_service(running, house, seed, phases):
    """Schemathesis over all of it: no answer above 499, no status or answer that is not in it.

    Examples and coverage do not depend on the seed.
    """
    st = str(Path(sys.executable).with_name("schemathesis"))
    words = ["run", f"{running.address}/openapi.json", "--checks", CHECKS, "-n", "15"]
    words += ["-H", f"X-API-Key: {admin(house)['X-API-Key']}", "--seed", str(seed)]
    done = subprocess.run(
        [st, *words, "--phases", phases],
        cwd=house,
        env=environment(house),
        text=True,
        capture_output=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    document = running.http.get("/openapi.json").json()
    example = document["components"]["schemas"]["Row"]["example"]
    assert running.http.post("/predict", json=example).status_code == 200
    assert "swagger" in running.http.get("/docs").text
    assert "cdn" not in running.http.get("/docs").text


def test_nothing_secret_and_no_row_is_in_the_logs(running):
    running.http.get("/predict", params=FULL, headers={"X-API-Key": "lb_very-secret"})
    running.http.get("/predict?size=123454321")
    text = running.errors.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert {"request_id", "route", "status", "milliseconds"} <= set(lines[-1])
    assert "very-secret" not in text
    assert "123454321" not in text
    assert not [line for line in lines if line["event"] == "error"]


FLOOD = 8


@contextlib.contextmanager
def flood(service: Running) -> Iterator[list[dict]]:
    """Requests from some threads while the block runs; every answer is in the list."""
    answers: list[dict] = []
    enough = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.address, timeout=20) as client:
            while not enough.is_set():
                try:
                    found = client.get("/predict", params=FULL)
                    answers.append(found.json() | {"status": found.status_code})
                except httpx.TransportError:
                    return

    threads = [threading.Thread(target=ask) for _ in range(FLOOD)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def both(house, own_registry) -> list[tracking.Version]:
    """The two versions, of which one is champion."""
    newest, oldest = tracking.versions(tracking.connect(paths.Project(house)), "house-prices")
    return [oldest, newest]


def test_swaps_under_load_fail_and_mix_nothing(house, both):
    """The alias moves three times while requests pour in: each answer is of the version it names."""
    client = tracking.connect(paths.Project(house))
    with Running(house, "--quiet") as service:
        address = ("127.0.0.1", service.port)
        found = swaps.measure(address, client, both, FULL, requests=3000, moves=3)
        assert service.http.get("/metadata").json()["version"] == both[1].number
    assert found.requests >= 3000
    assert (found.failed, found.mixed, len(found.delays)) == (0, 0, 3)


def test_a_swap_under_load_can_be_rolled_back_and_stays_so(house, both):
    client, key = tracking.connect(paths.Project(house)), admin(house)
    tracking.set_alias(client, both[0], tracking.CHAMPION)
    with Running(house, "--quiet") as service:

        def version() -> str:
            return service.http.get("/metadata").json()["version"]

        with flood(service) as answers:
            tracking.set_alias(client, both[1], tracking.CHAMPION)
            wait_for(lambda: version() == both[1].number, "the other version")
            back = service.http.post("/admin/rollback", headers=key).json()
            assert back["version"] == both[0].number
            time.sleep(1)
            assert version() == both[0].number
        assert {a["status"] for a in answers} == {200}
        assert len({(a["version"], a["predicted_price"]) for a in answers}) == 2


def test_a_tampered_artifact_is_refused_while_the_old_one_goes_on(two_versions, tmp_path):
    house = set_knobs(copied(two_versions, tmp_path / "house"), serve_watch_s="0.3")
    with Running(house) as service:
        before = service.http.get("/metadata").json()["version"]
        client = tracking.connect(paths.Project(house))
        challenger = tracking.holder(client, "house-prices", tracking.CHALLENGER)
        card = next((house / "var/mlflow").rglob(f"{challenger.run_id}/*/*/card.json"))
        honest = card.read_text()
        card.write_text(honest.replace("house-prices", "other-prices", 1))
        tracking.make_champion(client, challenger, {})
        deadline = time.monotonic() + 20
        while "loopbook_version_refused{" not in (page := service.http.get("/metrics").text):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        refused = f'loopbook_version_refused{{code="digest",version="{challenger.number}"}} 1.0'
        assert refused in page
        (fault,) = service.http.get("/health/ready").json()["not_followed"]
        assert (fault["version"], fault["code"]) == (challenger.number, "digest")
        assert "card.json has SHA-256" in fault["reason"]
        assert service.http.get("/metadata").json()["version"] == before
        assert service.http.get("/predict", params=FULL).status_code == 200
        card.write_text(honest)
        answer = service.http.post("/admin/reload", headers=admin(house)).json()
        about = {"swapped": True, "version": challenger.number, "calibration_as_of": None}
        assert answer == about
        assert "loopbook_version_refused{" not in service.http.get("/metrics").text


def test_a_registry_that_goes_away_changes_nothing(house):
    with Running(house) as service:
        database = house / "var/mlflow/mlflow.db"
        before = service.http.get("/metadata").json()["version"]
        database.rename(database.with_suffix(".away"))
        time.sleep(1.5)
        try:
            assert service.http.get("/predict", params=FULL).json()["version"] == before
            assert service.http.get("/health/ready").status_code == 200
        finally:
            database.with_suffix(".away").rename(database)


def test_what_a_client_received_is_in_the_log_whenever_the_process_is_killed(house):
    """SIGKILL under load, three times: every answer is logged, and once."""
    received: list[str] = []
    for count in (20, 60, 140):
        service = Running(house, "--quiet")
        with flood(service) as answers:
            wait_for(lambda: len(answers) >= count, f"{count} answers")  # noqa: B023
            service.process.send_signal(signal.SIGKILL)
            service.process.wait(30)
        service.http.close()
        received += [a["prediction_id"] for a in answers]
    assert len(received) >= 220
    with contextlib.closing(sqlite3.connect(house / "var/predictions.db")) as database:
        logged = [row[0] for row in database.execute("SELECT id FROM predictions")]
    assert set(received) <= set(logged)
    assert len(logged) == len(set(logged))


def test_without_a_champion_it_starts_not_ready_and_says_why(tmp_path):
    folder = make_project(tmp_path / "empty", serve_watch_s="0.3")
    with Running(folder) as service:
        answer = service.http.get("/health/ready")
        assert answer.status_code == 503
        assert "make build" in answer.json()["reason"]
        refused = service.http.get("/predict?size=1800")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert service.http.get("/openapi.json").status_code == 200
        give(folder, 1, tracking.CHAMPION, "ridge")
        deadline = time.monotonic() + 20
        while service.http.get("/health/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_keys_open_what_their_scope_says_and_nothing_when_revoked(house):
    made = loopbook(house, "keys", "create", "a caller")
    (secret,) = made.stdout.splitlines()  # alone, so that a shell can put it into a file
    number = made.stderr.split()[1]
    with Running(house, "--require-keys") as service:
        key = {"X-API-Key": secret}
        assert service.http.get("/health/ready").status_code == 200
        assert service.http.get("/predict", params=FULL).status_code == 401
        assert service.http.get("/metrics").status_code == 401
        assert service.http.get("/predict", params=FULL, headers=key).status_code == 200
        bearer = {"Authorization": f"Bearer {secret}"}
        assert service.http.get("/predict", params=FULL, headers=bearer).status_code == 200
        assert (
            service.http.post("/admin/reload", headers=key).json()["error"]["code"] == "wrong_scope"
        )
        assert loopbook(house, "keys", "revoke", number).returncode == 0
        time.sleep(2.1)
        assert service.http.get("/predict", params=FULL, headers=key).status_code == 401
    assert secret not in (house / "var/keys.db").read_bytes().decode("latin-1")
    listed = loopbook(house, "keys", "list").stdout
    assert f"{number}" in listed
    assert "revoked" in listed


def test_a_caller_who_asks_too_much_is_told_to_wait(tmp_path):
    folder = make_project(tmp_path / "slow", serve_requests_per_second="5")
    with Running(folder) as service:
        codes = [service.http.get("/metadata").status_code for _ in range(30)]
    assert codes[0] == 503
    assert 429 in codes


@pytest.mark.parametrize("role", ["shadow", "canary"])
def test_a_challenger_is_mirrored_or_given_its_share_and_the_log_tells(
    two_versions, tmp_path, role
):
    """Shadow answers are only logged; a canary answers the same keys always."""
    folder = copied(two_versions, tmp_path / role)
    set_knobs(folder, serve_challenger=f'"{role}"', serve_canary_share="0.3", serve_watch_s="0.3")
    with Running(folder, "--quiet") as service:
        assert service.http.get("/metadata").json()["challenger_version"] == "2"
        rows = [FULL | {"id": f"house-{n}", "date": "2015-03-01"} for n in range(200)]
        first, again = (
            service.http.post("/predict/batch", json={"rows": rows}).json()["predictions"]
            for _ in range(2)
        )
        time.sleep(2)
    versions = [a["version"] for a in first]
    assert versions == [a["version"] for a in again]
    log = prediction_log.connect(
        paths.Project(folder), contract.read_contract(ROOT / "contract.yaml")
    )
    logged = pl.concat(log.rows(), how="diagonal")
    log.close()
    if role == "canary":
        assert 0.2 < versions.count("2") / 200 < 0.4
        assert set(logged["role"]) == {"champion", "canary"}
        return
    assert set(versions) == {"1"}
    mirrored = logged.filter(role="shadow")
    assert mirrored.height == 400
    pairs = mirrored.join(logged, left_on="shadow_of", right_on="id", suffix="_champion")
    assert pairs.height == 400
    assert (pairs["answer"] != pairs["answer_champion"]).all()


def test_the_service_never_unpickles_and_never_imports_a_training_library(house):
    """With pickle made to raise, it loads, answers and follows the alias."""
    code = (
        "import pickle, sys\n"
        "def never(*_, **__): raise AssertionError('unpickled')\n"
        "pickle.loads = pickle.load = never\n"
        "class Never:\n    def __init__(self, *_, **__): never()\n"
        "pickle.Unpickler = Never\n"
        "from fastapi.testclient import TestClient\n"
        "from loopbook.project import paths\n"
        "from loopbook.serving.app import create_app\n"
        "app = create_app(paths.current(), needs_keys=False, quiet=True)\n"
        "with TestClient(app) as client:\n"
        "    assert client.get('/predict?size=1800').status_code == 200\n"
        "heavy = {'mlflow', 'sklearn', 'evidently', 'IPython', 'jupyter_server', 'ploomber', 'skops'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=house,
        env=environment(house),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_registry_read_without_mlflow_is_what_mlflow_says(house):
    from loopbook.registry import reader as registry_reader

    here = paths.Project(house)
    client = tracking.connect(here)
    light = registry_reader.connect(here.environment()["MLFLOW_TRACKING_URI"])
    for alias in (tracking.CHAMPION, tracking.CHALLENGER, "nobody"):
        ours, theirs = (
            light.held("house-prices", alias),
            tracking.holder(client, "house-prices", alias),
        )
        assert (ours is None) == (theirs is None)
        if ours:
            assert (ours.number, ours.run_id, ours.tags) == (
                theirs.number,
                theirs.run_id,
                theirs.tags,
            )
            onnx, _ = tracking.load_service_files(client, theirs)
            assert light.content(ours, "model.onnx") == onnx


def test_a_tracking_server_and_other_databases_do_as_well(tmp_path, postgresql, redis_address):
    """A real MLflow server hands out the files; the log is in PostgreSQL, features in Redis."""
    folder = make_project(tmp_path / "a team", serve_watch_s="0.3")
    port, mlflow = free_port(), Path(sys.executable).with_name("mlflow")
    address = f"http://127.0.0.1:{port}"
    words = ["server", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    words += ["--artifacts-destination", str(tmp_path / "files")]
    with (tmp_path / "server.txt").open("w") as out:
        server = subprocess.Popen(
            [mlflow, *words], cwd=tmp_path, env=environment(folder), stdout=out, stderr=out
        )
    try:
        wait_for(lambda: answers(f"{address}/health"), "mlflow server", 90)
        more = {"MLFLOW_TRACKING_URI": address}
        more["LOOPBOOK_PREDICTION_LOG"] = postgresql
        more["LOOPBOOK_FEATURE_STORE"] = redis_address
        give(folder, 1, tracking.CHAMPION, "ridge", **more)
        words = ["features", "materialize", "--as-of", "2015-03-01"]
        assert loopbook(folder, *words, **more).returncode == 0
        with Running(folder, "--quiet", **more) as service:
            row = FULL | {"id": f"team-{port}", "date": "2015-03-01"}
            answer = service.http.post("/predict", json=row).json()
            assert answer["imputed"] == []
            truth = {"prediction_id": answer["prediction_id"], "observed": 520_000}
            assert service.http.post("/feedback", json=truth).json()["accepted"] == 1
            metadata = service.http.get("/metadata").json()
        assert metadata["version"] == "1"
        assert not (folder / "var/predictions.db").exists()
        assert not (folder / "var/features.db").exists()
    finally:
        family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in family:
            process.terminate()
        server.wait(30)
        psutil.wait_procs(family, timeout=20)


def test_a_body_that_never_comes_is_given_up(tmp_path):
    folder = make_project(tmp_path / "slow", serve_timeout_s="0.5")
    with (
        Running(folder, "--quiet") as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=10) as line,
    ):
        head = "POST /feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b" 504 " in line.recv(200)
