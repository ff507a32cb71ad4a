"""What a query or a body may hold, and that the work to find out is bounded before it begins."""

import asyncio
import json
import threading
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_house import ROOT

from loopbook.project.contract import read_contract
from loopbook.serving import exchange, reading, refusals
from loopbook.serving.reading import MOST_LEVELS, MOST_NAMES, read_json, read_query
from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.schemas import feedback_of

FEEDBACK = feedback_of(read_contract(ROOT / "contract.yaml"))


def refused(read, what: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        read(what)
    assert len(caught.value.body()) < 1_000
    return f"{caught.value.status} {caught.value.code}: {caught.value.message}"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": 1, "a": 2}', "422 given_twice: a: stands"),
        (b'{"a": 1, "a" : 2}', "422 given_twice: a: stands"),
        (b'{"a": 1, "a"\n:2}', "422 given_twice: a: stands"),
        (b'{"size": 1, "\\u0073ize": 2}', "422 given_twice: size: stands"),
        (b'{"rows": [{"b": 1}, {"a": {"c": 1, "c": 1}}]}', "422 given_twice: c: stands"),
        (b'{"a": "\\":", "b": 1, "b": 1}', "422 given_twice: b: stands"),
        (b'{"a": ' + b"[" * 900 + b"]" * 900 + b', "a": 1}', "422 "),
        (b'{"' + b"x" * 10**6 + b'": 1, "' + b"x" * 10**6 + b'": 2}', "422 given_twice: xxx"),
        (b'{"a": {"key": "x\\u0000y"}}', "422 invalid_value: key: found the character NUL"),
        (b'{"a\\u0000": 1}', "422 invalid_value: a: found the character NUL"),
        (b'"\\u0000"', "422 invalid_value: body: found the character NUL"),
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), "422 too_deep: "),
        (b"[" * 10**5, "400 broken_json: "),
        (b"1" * 10**5, "400 broken_json: "),
        (b'{"a": "\\ud800"}', "400 broken_json: "),
        (b"[" + b"[]," * 10**6 + b"1]", "422 too_large: "),
        (orjson.dumps({f"n{n}": 1 for n in range(10**5)}), "422 too_many_fields: found 100,000"),
    ],
)
def test_a_body_that_holds_too_much_or_a_name_twice_is_refused_in_short(body, told):
    assert refused(read_json, body).startswith(told)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (b"&".join(b"n%d=1" % n for n in range(16_201)), "422 too_many_fields: found 16,201"),
        (b"a=1&a=2", "422 given_twice: a"),
        (b"a=1&%61=2", "422 given_twice: a"),
        (b"zipcode=98%00115", "422 invalid_value: zipcode: found the character NUL"),
        (b"a%00=1", "422 invalid_value: a: found the character NUL"),
        (b"a=%FF", "400 broken_query"),
        (b"a=%ED%A0%80", "400 broken_query"),
    ],
)
def test_a_query_is_refused_as_a_body_is(query, told):
    assert refused(read_query, query).startswith(told)


def test_of_a_query_with_one_name_twice_each_name_is_looked_at_once():
    """16,201 names took 9.8 s when each was counted among all the others."""
    looked_at = []

    def names():
        for n in [*range(MOST_NAMES), 0]:
            looked_at.append(n)
            yield str(n)

    assert reading._first_repeated(names()) == "0"
    assert len(looked_at) == MOST_NAMES + 1


FLAT = st.dictionaries(st.text(max_size=4), st.text(max_size=9) | st.integers(0, 9), max_size=5)


@pytest.mark.medium
@given(st.dictionaries(st.text(max_size=4), FLAT | st.lists(FLAT, max_size=3), max_size=4))
def test_what_stands_once_is_read_as_it_stands(content):
    """In whatever spacing, with colons and quotes in names and texts."""
    if "\\u0000" in json.dumps(content):
        return
    for spacing in ((",", ":"), (", ", ": "), (" ,", " : ")):
        assert read_json(json.dumps(content, separators=spacing).encode()) == content


@given(FLAT.filter(bool), st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t:\t")]))
def test_what_stands_twice_is_found_whatever_stands_beside_it(content, spacing):
    inner = json.dumps(content, separators=spacing)[1:-1]
    for body in (f"{{{inner},{inner}}}", f'{{"rows": [{{{inner},{inner}}}]}}'):
        with pytest.raises(Refusal) as caught:
            read_json(body.encode())
        assert caught.value.code == "given_twice"


def test_a_refusal_lists_the_first_faults_counts_the_rest_and_cuts_what_is_long():
    """1.8 MB of unknown names came back as more than that."""
    wrong = {f"{n}{'x' * 500}": 1 for n in range(1_500)} | {"observed": ["y"] * 10**5}
    try:
        FEEDBACK.model_validate({"truths": [wrong]})
    except ValidationError as error:
        refusal = of_validation(error)
    details = orjson.loads(refusal.body())["error"]["details"]
    assert len(details) == refusals.MOST_SHOWN + 1
    assert details[-1] == {"code": "more_faults", "message": "and 1,461 more"}
    assert "observed: found ['y', 'y', " in details[0]["message"]
    assert len(refusal.body()) < 20_000


def test_others_are_answered_between_the_rows_of_a_batch(monkeypatch):
    """A batch of 1,000 rows kept everybody waiting for its whole check."""
    monkeypatch.setattr(exchange, "checked", lambda *_, **__: None)
    service = SimpleNamespace(job=lambda *given: given[2])
    request = SimpleNamespace(scope={"state": {"started": 0.0}})
    turns = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def ask() -> list:
        beside = asyncio.create_task(other())
        jobs = await exchange.jobs_of(
            service, None, range(1_000), request, route="batch", where="rows"
        )
        beside.cancel()
        return jobs

    assert asyncio.run(ask()) == list(range(1_000))
    assert len(turns) >= 1_000 // exchange.ROWS_AT_ONCE


def test_a_large_body_is_read_in_a_thread_and_refused_as_a_small_one():
    threads = []

    async def ask(body: bytes):
        return await exchange._read(body)

    def read(body: bytes):
        threads.append(threading.current_thread())
        return read_json(body)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exchange, "read_json", read)
        for filling in (b"", b" " * exchange.LARGE_BODY):
            with pytest.raises(Refusal, match="stands more than once"):
                asyncio.run(ask(b'{"a": 1, "a": 2}' + filling))
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_of_many_wrong_truths_the_first_is_told():
    """Ten thousand of them with a thousand faults each would be ten million."""
    with pytest.raises(ValidationError) as caught:
        FEEDBACK.model_validate({"truths": [{"a": 1, "b": 2}] * 10_000})
    assert caught.value.error_count() == 3
