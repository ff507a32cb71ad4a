"""Who may ask, under which name and from whose page, and what of it is told and logged."""

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request, Response
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from loopbook.project.errors import KeyStoreError, KnobError
from loopbook.serving import origins, predictions, routing
from loopbook.serving.admission import WRONG_BURST, Admission
from loopbook.serving.guard import Guard
from loopbook.serving.limits import RateLimit, network_of
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal, without_places

KNOBS = SimpleNamespace(serve_timeout_s=5, serve_body_bytes=1_000)
RIGHT, SCRAPING = "lb_right", "lb_scraping"
KNOWN = {RIGHT: ("a1", frozenset({"predict"})), SCRAPING: ("b2", frozenset({"metrics"}))}
NOTHING = SimpleNamespace(servable=None, record=None, at=None)


class Store:
    """A store of two keys, that counts how often it was asked."""

    def __init__(self):
        self.asked, self.error = [], None

    def scopes(self, secret):
        self.asked.append((secret, threading.current_thread()))
        if self.error:
            raise self.error
        return KNOWN.get(secret)


async def here(request):
    return PlainTextResponse("here")


async def elsewhere(request):
    return RedirectResponse(request.query_params["to"])


def guard(store=None, *, bound_to="127.0.0.1", rate=0.0, needs_keys=False) -> Guard:
    routes = [Route("/here", here, methods=["GET", "POST"]), Route("/go", elsewhere)]
    routes += [Route("/metrics", here), Route("/feedback", here)]
    metrics = Metrics()
    admission = Admission(lambda: store, metrics, needs_keys=needs_keys, requests_per_second=rate)
    return Guard(
        Starlette(routes=routes),
        metrics=metrics,
        knobs=KNOBS,
        origins=origins.origins(bound_to),
        admission=admission,
    )


def asked(app: Guard, path="/here", method="GET", client="127.0.0.1", **headers):
    """The status, the headers and the body or the error's code of one request."""
    given = {"host": "localhost:8000"} | {n.replace("_", "-"): v for n, v in headers.items()}
    path, _, query = path.partition("?")
    sent = []

    async def tell(message):
        sent.append(message)

    async def receive():
        kind = "http.disconnect" if path == "/gone" else "http.request"
        return {"type": kind, "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": [(n.encode(), v.encode()) for n, v in given.items() if v is not None],
        "client": (client, 1), "state": {}, "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, tell))
    start, body = sent[0], b"".join(m.get("body", b"") for m in sent[1:])
    about = dict(start["headers"])
    if about.get(b"content-type") == b"application/json":
        return start["status"], about, json.loads(body)["error"]["code"]
    return start["status"], about, body.decode()


@pytest.mark.parametrize(
    ("bound_to", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "LOCALHOST", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("127.0.0.1", "models.example", 200),  # named
        ("127.0.0.1", "evil.example", 421),
        ("127.0.0.1", "10.0.0.7", 421),
        ("127.0.0.1", "localhost.evil.example", 421),
        ("127.0.0.1", "localhost@evil.example", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.1", None, 400),
        ("0.0.0.0", "10.0.0.7:8000", 200),
        ("::", "[2001:db8::1]", 200),
        ("0.0.0.0", "evil.example", 421),
        ("10.0.0.7", "10.0.0.7", 200),
        ("box", "box:8000", 200),
    ],
)
def test_only_a_name_of_the_service_reaches_it(monkeypatch, bound_to, host, status):
    """Else a page could call it by a name of its own that leads here."""
    monkeypatch.setenv(origins.HOSTS, "models.example, other.example")
    assert asked(guard(bound_to=bound_to), host=host)[0] == status


NO_PAGE = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}
LINK = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"origin": "http://localhost:8000"}, 200),
        ("POST", {"origin": "https://localhost:8000"}, 200),
        ("POST", {"origin": "https://app.example"}, 200),  # named
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "http://localhost:3000"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "file://localhost:8000"}, 403),
        ("GET", {"origin": "http://evil.example"}, 403),
        ("GET", NO_PAGE, 403),
        ("GET", LINK, 200),
        ("POST", LINK, 403),
        ("GET", LINK | {"sec_fetch_dest": "iframe"}, 403),
        ("POST", {"sec_fetch_site": "same-origin"}, 200),
        ("GET", {"sec_fetch_site": "none"}, 200),
        ("POST", {}, 200),
    ],
)
def test_only_our_own_page_and_named_ones_may_ask_and_a_link_may_be_followed(
    monkeypatch, method, headers, status
):
    monkeypatch.setenv(origins.PAGES, "https://app.example")
    assert asked(guard(), method=method, **headers)[0] == status


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        (origins.HOSTS, "https://models.example", "expected names such as models.example"),
        (origins.PAGES, "app.example", "expected origins such as https://app.example"),
        (origins.PROXIES, "proxy", "expected addresses or networks such as 10.0.0.0/8"),
    ],
)
def test_a_variable_that_names_nothing_of_its_kind_is_refused_at_the_start(
    monkeypatch, variable, text, told
):
    monkeypatch.setenv(variable, text)
    with pytest.raises(KnobError, match=told):
        origins.proxies() or origins.origins("127.0.0.1")


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("http://localhost:8000/a?b=c", b"/a?b=c"),
        ("https://elsewhere.example/a", b"https://elsewhere.example/a"),
        ("/a", b"/a"),
    ],
)
def test_a_redirect_never_repeats_the_host_that_a_caller_named(to, told):
    assert asked(guard(), f"/go?to={to}")[1][b"location"] == told


def test_wrong_keys_are_counted_and_held_back_by_client_and_a_right_one_is_not(capsys):
    """After ten the store is asked no more; who has used a right key goes on."""
    store = Store()
    app = guard(store, needs_keys=True)
    assert asked(app, x_api_key=RIGHT)[0] == 200
    codes = [asked(app, x_api_key=f"lb_{n}")[2] for n in range(WRONG_BURST + 5)]
    assert codes == ["wrong_key"] * WRONG_BURST + ["too_many_wrong_keys"] * 5
    assert len(store.asked) == 1 + WRONG_BURST
    assert asked(app, x_api_key=RIGHT)[0] == 200
    assert asked(app, x_api_key="lb_x", client="127.0.0.2")[2] == "wrong_key"
    page = app.metrics.page().decode()
    assert f"loopbook_wrong_keys_total {WRONG_BURST + 1:.1f}" in page
    assert all(thread is not threading.main_thread() for _, thread in store.asked)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (lines[0]["caller"], lines[0]["client"]) == ("a1", "127.0.0.1")
    assert (lines[-1]["caller"], lines[-1]["client"]) == ("-", "127.0.0.2")
    assert "lb_" not in str(lines)


def test_a_store_of_keys_that_cannot_be_read_is_a_503_and_the_log_has_the_cause(capsys):
    store = Store()
    store.error = KeyStoreError("sqlite:////srv/house/var/keys.db: cannot be used (malformed)")
    status, _, code = asked(guard(store, needs_keys=True), x_api_key=RIGHT)
    assert (status, code) == (503, "keys_unavailable")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["cause"] == str(store.error)


@pytest.mark.parametrize(("path", "lines"), [("/health/live", 0), ("/metrics", 0), ("/other", 1)])
def test_a_good_answer_to_what_is_polled_has_no_log_line_and_a_bad_one_has(capsys, path, lines):
    app, status = guard(), 200
    app.app = FastAPI()

    @app.app.get(path)
    async def polled():
        return Response(status_code=status)

    assert asked(app, path)[0] == 200
    assert len(capsys.readouterr().err.splitlines()) == lines
    status = 503
    asked(app, path)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["status"]) == ("request", 503)


def test_a_client_that_went_away_is_no_error_of_the_service(capsys):
    """Each was an `error` line and an `internal_error`, as if something were broken here."""
    app = guard()
    app.app = FastAPI()
    routing.add_error_handlers(app.app)

    @app.app.post("/gone")
    async def gone(request: Request):
        return await request.body()

    asked(app, "/gone", method="POST")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]
    assert 'loopbook_errors_total{code="client_gone"} 1.0' in app.metrics.page().decode()


def test_only_so_many_explanations_wait_and_no_place_is_lost(monkeypatch):
    """Each computes some 600 rows; who comes too late is told before anything is computed."""
    free, computed = threading.Event(), []

    def explain(*given):
        computed.append(given)
        assert free.wait(20)
        return {"base": 1.0}

    async def ask(reasons, count: int) -> list:
        async def one():
            with reasons.place():
                return await reasons.of(SimpleNamespace(deployment=NOTHING, state=None), NOTHING)

        asked = [asyncio.create_task(one()) for _ in range(count)]
        await asyncio.sleep(0)
        free.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    monkeypatch.setattr(predictions, "explain", explain)
    reasons = predictions.Reasons()
    for _ in range(2):
        told = asyncio.run(ask(reasons, predictions.MOST_EXPLAINED + 3))
        assert [t.status for t in told if isinstance(t, Refusal)] == [503] * 3
    assert len(computed) == 2 * predictions.MOST_EXPLAINED


def test_no_caller_is_told_an_address_or_a_path():
    sentence = (
        "postgresql://me@10.0.0.7:5432/log, sqlite:////srv/a.db and (/srv/house/var): cannot be "
        "used; see /health/ready, /predict and 1/2"
    )
    told = Refusal(503, "x", sentence, hint="see /etc/hosts").because(sentence).body().decode()
    assert without_places(sentence) == (
        "…, … and (…): cannot be used; see /health/ready, /predict and 1/2"
    )
    for place in ("10.0.0.7", "/srv", "/etc"):
        assert place not in told


def test_a_caller_who_asks_least_is_forgotten_first():
    """Many callers cannot make the service forget one that asks too much."""
    rate = RateLimit(1, 2)
    assert [rate.allows("much", 0.0) for _ in range(3)] == [True, True, False]
    for n in range(9_999):
        rate.allows(f"other {n}", 0.0)
    rate.allows("much", 0.1)
    for n in range(9_000):
        rate.allows(f"late {n}", 0.1)
    assert not rate.allows("much", 0.2)
    assert rate.allows("other 0", 0.2)


def test_a_client_with_many_addresses_is_one():
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.7") == network_of("10.0.0.7") != network_of("10.0.0.8")


@pytest.mark.parametrize(
    ("path", "key", "outcome"),
    [
        ("/metrics", SCRAPING, (200, "here")),
        ("/metrics", RIGHT, (200, "here")),
        ("/here", SCRAPING, (403, "wrong_scope")),
        ("/feedback", SCRAPING, (403, "wrong_scope")),
        ("/metrics", None, (401, "no_key")),
    ],
)
def test_a_key_for_metrics_opens_the_counts_and_nothing_else(path, key, outcome):
    """Prometheus holds it, on a disk that others read; a key that predicts sees the counts too."""
    bearer = key and f"Bearer {key}"
    status, _, told = asked(guard(Store(), needs_keys=True), path, authorization=bearer)
    assert (status, told) == outcome
