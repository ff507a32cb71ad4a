"""Monitoring as its users meet it: one run on real sales, and the same number everywhere."""

import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest
import turned
import yaml
from accessible import faults, themed
from browsing import Voila, browser, resized
from conftest import free_port, program, wait_for
from made_once import copied
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from small_house import ROOT, Running, answers, environment, loopbook, make_project
from watched import asked_for, watched_if_possible

from loopbook.data import prediction_log
from loopbook.data.prediction_log import Entry, Truth
from loopbook.models.measures import of_record
from loopbook.monitoring import notifications, windows
from loopbook.pages.rendering import PAGES
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.records import verdicts
from loopbook.records import windows as window_records

pytestmark = pytest.mark.slow
MARKUP = "<img src=x onerror=\"document.title='broken out'\">"
SERVE = """
import polars as pl, served, sys
from datetime import datetime, UTC
rows = served.sales(datetime(2015, 3, 2, tzinfo=UTC), datetime(2015, 4, 1, tzinfo=UTC))
strange = pl.when(pl.int_range(pl.len()) % 25 == 0).then(pl.lit(sys.argv[1]))
served.answer(rows, lambda r: r.with_columns(zipcode=strange.otherwise(pl.col("zipcode"))))
"""


@pytest.fixture(scope="module")
def house(one_version, tmp_path_factory) -> Path:
    """A project whose champion answered a month of real sales, and one monitoring run of it."""
    folder = copied(one_version, tmp_path_factory.mktemp("monitor") / "house")
    tests = os.pathsep.join([str(ROOT), str(ROOT / "src"), str(ROOT / "tests")])
    words = [sys.executable, "-c", SERVE, MARKUP]
    subprocess.run(words, cwd=folder, env=environment(folder, PYTHONPATH=tests), check=True)
    assert loopbook(folder, "features", "materialize", "--as-of", "2015-03-15").returncode == 0
    words = [sys.executable, "-m", "loopbook", "monitor", "--as-of", "2015-04-01"]
    done = watched_if_possible(words, folder, environment(folder))
    assert done.returncode == 0, done.stderr
    (folder / "told.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def pages(house):
    with Voila(house) as served:
        yield served


def record_of(house: Path) -> dict:
    return window_records.newest(Project(house))


def test_a_run_says_what_it_judged_and_keeps_a_record(house):
    record = record_of(house)
    told = (house / "told.txt").read_text()
    assert record["verdict"]["level"] in told
    assert record["verdict"]["reasons"][0] in told
    assert "next        make reports" in told
    numbers = record["numbers"]
    assert numbers["labels"] == numbers["due"] > 800
    assert numbers["error_low"] < numbers["error"] < numbers["error_high"]
    folder = window_records.window_folder(Project(house), record["as_of"])
    for name in ("report.html", "report.json", "trend.svg", "shares.svg", "slices.svg"):
        assert (folder / name).stat().st_size > 1000, name


def test_a_monitoring_run_asks_for_no_name_outside_and_leaves_nothing_at_home(house):
    assert asked_for(house) == ([], [])


def test_evidentlys_report_has_our_distances_and_thresholds(house):
    record = record_of(house)
    folder = window_records.window_folder(Project(house), record["as_of"])
    report = json.loads((folder / "report.json").read_text())
    theirs = {
        metric["config"]["column"]: (metric["value"], metric["config"]["threshold"])
        for metric in report["metrics"]
        if "ValueDrift" in metric["metric_name"]
    }
    judged = [column for column in record["columns"] if column["is_judged"]]
    ours = {c["column"]: (c["distance"], c["threshold"]) for c in judged}
    assert len(theirs) > 15
    for name, pair in theirs.items():
        assert pair == pytest.approx(ours[name]), name


def test_one_number_stands_everywhere(house, pages, chrome):
    """Record, JSON of the window, tracked run, metrics of the service, dashboard."""
    from mlflow.tracking import MlflowClient

    record = record_of(house)
    error = record["numbers"]["error"]
    folder = window_records.window_folder(Project(house), record["as_of"])
    assert json.loads((folder / "performance.json").read_text())["error"]["mean"] == error
    client = MlflowClient(f"sqlite:///{house}/var/mlflow/mlflow.db")
    run = client.get_run(record["mlflow_run_id"])
    assert run.data.metrics["error"] == error
    assert run.data.tags["verdict"] == record["verdict"]["level"]
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "report.json", "record.json"} <= names
    with Running(house, "--quiet") as service:
        page = service.http.get("/metrics").text
    told = re.search(r'loopbook_window\{number="error"\} (\S+)', page)[1]
    assert float(told) == error
    level = record["verdict"]["level"]
    assert f'loopbook_verdict{{level="{level}"}} 1.0' in page
    text = pages.read(chrome, "1_overview")
    measure, _ = of_record(record)
    assert f"{measure.said(error)}\nrealized {measure.title}" in text


EXPECTED = {
    "0_start": ("It predicts price, in USD.", "What is there to do?", "What happened lately?"),
    "1_overview": ("Is the model well?", "realized mean absolute log error", "What happened when?"),
    "2_drift": ("Have the inputs moved?", "training has not seen", "moves with time"),
    "3_performance": ("How wrong is it?", "estimated for the same answers", "root of the mean"),
    "6_what_if": ("What if?", "price, USD", "contribution"),
}


RIGHT = """
return Math.max(...[...document.querySelectorAll('.lb')].map(e => e.getBoundingClientRect().right))
"""


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_every_dashboard_shows_its_data_on_a_desk_and_on_a_phone(pages, chrome, width, theme):
    resized(chrome, width)
    themed(chrome, theme)
    for page, sentences in EXPECTED.items():
        text = pages.read(chrome, page)
        for sentence in sentences:
            assert sentence in text, (page, sentence)
        assert "Traceback" not in text
        assert "dashboards.show" not in text
        wide = chrome.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width + 5, page
        assert chrome.execute_script(RIGHT) <= width + 1, page
        broken = "return [...document.images].filter(i => !i.naturalWidth).length"
        wait_for(lambda: chrome.execute_script(broken) == 0, f"pictures of {page}", 20)  # noqa: B023
        assert chrome.title != "broken out"
        assert faults(chrome) == [], page
    told = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    sent = [m["params"] for m in told if m["method"] == "Network.requestWillBeSent"]
    asked = {urlsplit(params["request"]["url"]) for params in sent}
    assert {url.hostname for url in asked if url.scheme.startswith("http")} == {"127.0.0.1"}


def test_the_address_opens_the_first_page_and_a_keyboard_goes_on_from_there(pages, chrome):
    resized(chrome, 1400)
    chrome.get(f"http://127.0.0.1:{pages.port}/")
    wait_for(lambda: chrome.find_elements(By.CSS_SELECTOR, ".lb h1"), "the first page", 90)
    assert chrome.current_url.endswith("/voila/render/0_start.ipynb")
    keys = ActionChains(chrome)
    keys.send_keys(Keys.TAB).perform()
    assert chrome.switch_to.active_element.text == "Skip to the content"
    keys.send_keys(Keys.TAB * 3, Keys.ENTER).perform()  # start, window, drift
    wait_for(lambda: "2_drift" in chrome.current_url, "the page of drift", 20)
    wait_for(lambda: chrome.find_elements(By.CSS_SELECTOR, ".sortable button"), "a table", 90)
    heading = chrome.find_element(By.CSS_SELECTOR, ".sortable button")
    for way, first in (("ascending", min), ("descending", max)):
        heading.send_keys(Keys.ENTER)
        cells = chrome.find_elements(By.CSS_SELECTOR, ".sortable tbody td:first-child")
        names = [cell.text for cell in cells]
        assert names[0].lower() == first(name.lower() for name in names)
        th = chrome.find_element(By.CSS_SELECTOR, ".sortable th[aria-sort]")
        assert th.get_attribute("aria-sort") == way


def test_a_value_of_the_data_is_text_and_never_markup(pages, chrome):
    resized(chrome, 1200)
    text = pages.read(chrome, "2_drift")
    assert MARKUP in text
    report = chrome.find_element(By.TAG_NAME, "iframe")
    assert report.get_attribute("sandbox") == "allow-scripts"
    assert MARKUP not in report.get_attribute("srcdoc")
    assert chrome.title != "broken out"


def test_a_window_and_a_version_can_be_chosen(pages, chrome):
    resized(chrome, 1200)
    pages.read(chrome, "1_overview")
    version, window = chrome.find_elements(By.TAG_NAME, "select")[:2]
    assert [o.text for o in Select(version).options] == ["every version", "v1"]
    assert "until 2015-04-01 00:00" in window.text
    Select(version).select_by_visible_text("v1")
    told = 'return document.querySelectorAll("select")[1].textContent'
    wait_for(lambda: "2015-04-01" in chrome.execute_script(told), "v1", 10)
    assert "Is the model well?" in chrome.find_element(By.CSS_SELECTOR, ".lb h1").text
    pages.read(chrome, "6_what_if")
    given = chrome.find_element(By.CSS_SELECTOR, ".lb table").text
    level = float(re.search(r"Price level of all sales in 30 days ([\d.]+)", given)[1])
    assert 150 < level < 400  # dollars per square foot, from the feature store
    told = 'return document.querySelector(".lb .facts b").textContent'
    before = chrome.execute_script(told)
    place = chrome.find_elements(By.TAG_NAME, "select")[-1]
    Select(place).select_by_visible_text("98039")
    wait_for(lambda: chrome.execute_script(told) != before, "another answer", 20)


def test_a_dashboard_opens_as_a_notebook_in_jupyterlab_too(house):
    clean = {k: v for k, v in environment(house).items() if not k.startswith("JUPYTER")}
    port = free_port()
    words = [*(sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}")]
    words += ["--expose-app-in-browser", "--IdentityProvider.token=t"]
    words += ["--allow-root"] if os.geteuid() == 0 else []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(words, cwd=house, env=clean, start_new_session=True, **quiet)
    address = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as ending:
        ending.callback(os.killpg, server.pid, signal.SIGKILL)
        chrome = ending.enter_context(browser(1200))
        wait_for(lambda: answers(f"{address}/api?token=t"), "jupyterlab")
        chrome.get(f"{address}/lab/tree/reports/1_overview.ipynb?token=t")
        kernel = (
            "const w = window.jupyterapp && window.jupyterapp.shell.currentWidget;"
            "return w && w.sessionContext && w.sessionContext.session"
            " && w.sessionContext.session.kernel.status === 'idle'"
        )
        wait_for(lambda: chrome.execute_script(kernel), "the kernel", 90)
        chrome.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        wait_for(lambda: chrome.find_elements(By.CSS_SELECTOR, ".lb h1"), "the page", 60)
        parts = [part.text for part in chrome.find_elements(By.CLASS_NAME, "lb")]
        assert record_of(house)["verdict"]["level"] in " ".join(parts)
    server.wait(20)


def test_without_a_champion_and_without_an_answer_everything_says_what_is_missing(tmp_path, chrome):
    folder = make_project(tmp_path / "empty")
    resized(chrome, 390)
    with Voila(folder) as pages:
        for page in PAGES:
            text = pages.read(chrome, page)
            # a replay may be there before the first version
            missing = {
                "0_start": "There is no model yet.",
                "7_loop": "has not turned yet",
                "8_pipeline": "No notebook has run yet.",
            }
            assert missing.get(page, "There is no version yet.") in text
            assert faults(chrome) == [], page
            assert ("make replay" if page == "7_loop" else "make build") in text
    done = loopbook(folder, "monitor")
    assert done.returncode == 0, done.stderr
    assert "verdict     watch" in done.stdout
    assert "there is no champion yet; make one: make build" in done.stdout
    assert "nothing was ever asked of the service; start it: make serve" in done.stdout
    record = window_records.newest(Project(folder))
    assert record["numbers"]["error"] is None
    page = Path(folder, "var/monitor/decide.ipynb").read_text()
    assert "Traceback" not in page


def test_an_empty_window_says_where_to_look(house):
    here, table = Project(house), read_contract(house / "contract.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{house}/var/mlflow/mlflow.db")
        at = datetime(2013, 1, 1, tzinfo=UTC)
        asked, words = windows.Asked(at, at, 21), {"most_rows": 1000, "seed": 1}
        rows, reference, facts = windows.collect(here, table, asked, **words)
        assert rows.is_empty()
        assert not reference.is_empty()
        assert "nothing was asked from 2012-12-11 to 2013-01-01" in facts["wanting"][0]
        changed = house / "other.yaml"
        text = (house / "contract.yaml").read_text()
        changed.write_text(text.replace("  floors:\n", "  storeys:\n"))
        _, reference, facts = windows.collect(here, read_contract(changed), asked, **words)
        assert reference.is_empty()
        assert (
            "was built under another contract; its reference lacks storeys" in facts["wanting"][0]
        )


def small_log(folder: Path, rows: int, days: int = 28):
    """A log of answers spread over some days, none of the example's."""
    table = read_contract(ROOT / "contract.yaml")
    (folder / "var").mkdir()
    log = prediction_log.connect(Project(folder), table)
    log.know_inputs("d", ["sqft_living"])
    start = datetime(2015, 1, 1, tzinfo=UTC)
    at = [round((start + timedelta(days=days * k / rows)).timestamp() * 1e6) for k in range(rows)]
    log.append(
        [
            Entry(
                *(f"{k:032x}", 1, at[k], "m", "1", "champion", None, "predict", None, {}),
                *(np.array([k], np.float32), "d", {}, float(k), 1),
            )
            for k in range(rows)
        ]
    )
    return log, start


def test_of_many_answers_a_sample_is_read_that_is_spread_over_the_window(tmp_path):
    log, start = small_log(tmp_path, 8000)
    found, count = log.sample(start, start + timedelta(days=28), most_rows=1000, seed=1)
    assert count == 8000
    assert 900 <= found.height <= 1000
    assert found["id"].is_unique().all()
    weeks = found.group_by(pl.col("as_of_ts").dt.truncate("7d")).len()["len"]
    assert weeks.min() > 0.15 * found.height
    whole, _ = log.sample(start, start + timedelta(days=28), most_rows=9000, seed=1)
    assert whole.height == 8000
    log.close()


def test_ground_truth_that_was_not_known_yet_is_not_looked_at(tmp_path):
    table = read_contract(ROOT / "contract.yaml")
    log, start = small_log(tmp_path, 100)
    early, late = (round((start + timedelta(days=d)).timestamp() * 1e6) for d in (9, 60))
    log.tell([Truth(f"{0:032x}", None, 5.0, early, 1), Truth(f"{1:032x}", None, 6.0, late, 1)])
    assert log.tell([Truth("nobody", None, 7.0, early, 1)]) == ["unknown"]
    found, _ = log.sample(start, start + timedelta(days=28), most_rows=1000, seed=1)
    span = windows.Span(start + timedelta(days=28), 21, 7)
    rows = windows.as_columns(found, table, "1", span)
    assert rows["observed"][:2].to_list() == [5.0, None]
    assert rows.filter(windows.IS_JUDGED)["as_of_ts"].max() < start + timedelta(days=21)
    assert rows.filter(windows.IS_CURRENT)["as_of_ts"].min() >= start + timedelta(days=7)
    log.close()


def test_a_category_is_watched_as_it_was_answered_and_not_as_it_was_written(tmp_path):
    """No value is missing and no category of its own, whatever a client writes for it."""
    table = read_contract(ROOT / "contract.yaml").model_copy(update={"null_values": ["NA"]})
    log, start = small_log(tmp_path, 100)
    found, _ = log.sample(start, start + timedelta(days=28), most_rows=1000, seed=1)
    sent = ["", "NA", " 98115 ", 98115, 98115.0, None, "98115"]
    requests = [json.dumps({"zipcode": value}) for value in sent]
    found = found.head(len(sent)).with_columns(request=pl.Series(requests))
    span = windows.Span(start + timedelta(days=28), 21, 7)
    read = windows.as_columns(found, table, "1", span)["zipcode"].to_list()
    assert read == [None, None, "98115", "98115", "98115", None, "98115"]
    log.close()


HEARD: list[dict] = []


class Hears(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        HEARD.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_webhook_hears_of_alerts_and_changes_and_its_address_is_never_told(monkeypatch):
    record = {
        "as_of": "2015-04-01T00:00:00+00:00",
        "champion": {"name": "m", "version": "3"},
        "verdict": {"level": "retrain", "reasons": ["the error has grown"]},
        "numbers": {"error": 0.2},
    }
    assert notifications.notify(record, None) is None
    with http.server.HTTPServer(("127.0.0.1", 0), Hears) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(notifications.ADDRESS, f"http://127.0.0.1:{server.server_port}/secret")
        assert notifications.notify(record, "retrain") == "The webhook was told."
        calm = record | {"verdict": {"level": verdicts.HEALTHY, "reasons": ["all is well"]}}
        assert notifications.notify(calm, "healthy") is None
        assert notifications.notify(calm, "watch") == "The webhook was told."
        server.shutdown()
    assert "m v3" in HEARD[0]["text"]
    assert HEARD[0]["verdict"] == "retrain"
    told = notifications.notify(record, None)
    assert told == "The webhook could not be reached (ConnectError)."


def test_the_alerts_fire_when_they_must_and_keep_quiet_else():
    promtool = program("promtool", "prometheus")
    folder = ROOT / "deploy/prometheus"
    checked = (
        # syntax only: the key is a file of the machine that runs it
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    )
    for words in checked:
        done = subprocess.run([promtool, *words], cwd=folder, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load((folder / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    cases = yaml.safe_load((folder / "alerts_test.yml").read_text())["tests"]
    tested = [case["name"] for case in cases]
    assert set(tested) == {f"{a} {what}" for a in alerts for what in ("fires", "keeps quiet")}


DASHBOARD = ROOT / "deploy/grafana/dashboards/loopbook.json"


def kept(given: object, read: object) -> bool:
    """Whether all that was given is there after reading and writing."""
    if isinstance(given, dict):
        return all(k in read and kept(v, read[k]) for k, v in given.items())
    if isinstance(given, list):
        return len(given) == len(read) and all(map(kept, given, read))
    return given == read


def test_the_grafana_dashboard_keeps_its_schema():
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    given = json.loads(DASHBOARD.read_text())
    assert kept(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given))))
    wrong = given | {"panles": []}
    assert not kept(wrong, json.loads(JSONEncoder().encode(Dashboard.from_json(wrong))))


def test_no_panel_counts_the_time_since_what_never_was():
    """Such a moment is 0 in /metrics, and the panel would say 56 years."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    ages = [p["targets"][0]["expr"] for p in panels if p["title"].startswith("Since ")]
    assert len(ages) == 2
    assert all(re.fullmatch(r"time\(\) - \(\w+ > 0\)", age) for age in ages), ages


def test_prometheus_scrapes_the_service_and_answers_every_panel(house, tmp_path):
    import httpx

    prometheus, port = program("prometheus", "prometheus"), free_port()
    turned.keep_turns(house, turned.turns(1))
    with Running(house, "--quiet") as service:
        config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
        config = config.replace("service:8000", f"127.0.0.1:{service.port}").replace("15s", "1s")
        config = config.replace("/run/keys/prometheus.key", f"{tmp_path}/prometheus.key")
        (tmp_path / "prometheus.key").write_text("a key, which nobody asks for on loopback")
        (tmp_path / "prometheus.yml").write_text(config)
        (tmp_path / "alerts.yml").write_text((ROOT / "deploy/prometheus/alerts.yml").read_text())
        words = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/data"]
        words.append(f"--config.file={tmp_path}/prometheus.yml")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([prometheus, *words], **quiet) as running:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), "prometheus")
            queries = [
                panel["targets"][0]["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"]
            ]

            def result(query: str) -> list:
                asked = {"query": query}
                told = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params=asked).json()
                assert told["status"] == "success", (query, told)
                return told["data"]["result"]

            deadline = time.monotonic() + 40
            empty = queries
            while empty and time.monotonic() < deadline:
                for place in range(5):
                    service.http.get("/predict", params={"size": 1500 + place})
                    service.http.get("/predict", params={"size": "wrong"})
                time.sleep(1)
                empty = [query for query in queries if not result(query)]
            running.terminate()
    assert not empty
