"""Names: what the contract accepts goes through every machine of loopbook with its own value."""

import io
import keyword
import re
import warnings
from datetime import UTC, datetime, timedelta

import numexpr
import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from loopbook.data import log_tables, sources, splits, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.monitoring import windows
from loopbook.project import names
from loopbook.project.contract import Contract
from loopbook.project.formulas import FUNCTIONS, compiled, formula_names, uncomputed
from loopbook.registry import reference
from loopbook.serving.schemas import Schemas

IN_FORMULAS = {n for n in vars(numexpr.expressions) if n.isidentifier() and not n.startswith("_")}
IN_FORMULAS |= {"min", "max", "sum", "round", "sign", "prod", "real", "imag", "conj", "x0", "x1"}
PYTHON = {*keyword.kwlist, *keyword.softkwlist, "self", "cls", "print", "open", "id", "type"} - {
    "_"
}
PYDANTIC = {n for n in dir(BaseModel) if not n.startswith("_")} | {"Config", "root", "Row"}
SQL = {"select", "table", "order", "group", "where", "index", "user", "null", "values", "row"}
FRAMES = {
    "literal",
    "len",
    "count",
    "all",
    "columns",
    "struct",
    "nth",
    "column_0",
    "name",
    "schema",
}
OURS = {"entity", "value", "superseded", "valid_from", "order", "keeps", "period", "share"}
OURS |= {"predicted_rent", "predicted", "feature_size", "log_size", "bearing_15", "rows", "inputs"}
OURS |= {"imputed", "unknown", "out_of_range", "notes", "request", "features", "explanation"}
OTHERS = {"target", "prediction", "datetime", "text", "embeddings", "timestamp", "e1", "E5", "inf"}
OTHERS |= {
    "nan",
    "NaN",
    "NA",
    "null",
    "true",
    "None",
    "a" * 100,
    "A",
    "b_",
    "c__d",
    "le",
    "quantile",
}
NASTY = sorted(IN_FORMULAS | PYTHON | PYDANTIC | SQL | FRAMES | OURS | OTHERS | FUNCTIONS)
NASTY = sorted({*NASTY, *names.OWN, *names.REQUESTS})
START = datetime(2024, 1, 1, tzinfo=UTC)


def contract(**change) -> Contract:
    """A table of rents with what else a test puts in; `size` in proportion to the target."""
    number = {"type": "number", "example": 1.0, "meaning": "A number."}
    content = {
        "name": "rents",
        "meaning": "One row is a rent.",
        "task": "regression",
        "source": {"path": "rents.parquet"},
        "key": ["number"],
        "event_time": "day",
        "entity": "zone",
        "target": {"name": "rent", "meaning": "Rent.", "transform": "log", "range": [1, 1e6]},
        "features": {
            "size": number,
            "zone": {"type": "category", "example": "a", "meaning": "Zone."},
        },
    }
    content["target"] |= {"per": "size"}
    for part, more in change.items():
        content[part] = content[part] | more if isinstance(content.get(part), dict) else more
    return Contract.model_validate(content)


def as_role(role: str, name: str) -> Contract:
    """A contract in which a name is what the role says."""
    number = {"type": "number", "example": 1.0, "meaning": "A number."}
    seen = {"aggregate": "max", "window_days": 9, "meaning": "Seen."}
    value = {"value": "rent", "features": {name: seen}}
    return {
        "feature": lambda: contract(features={name: number}),
        "category": lambda: contract(
            features={name: number | {"type": "category", "example": "a"}}
        ),
        "alias": lambda: contract(features={"own": number | {"alias": name}}),
        "derived": lambda: contract(derived={name: {"formula": "size * 2", "meaning": "Twice."}}),
        "trailing": lambda: contract(history=value),
        "target": lambda: contract(target={"name": name}),
        "key": lambda: contract(key=[name]),
        "time": lambda: contract(event_time=name),
        "header": lambda: contract(features={"own": number | {"column": name}}),
    }[role]()


ROLES = ("feature", "category", "alias", "derived", "trailing", "target", "key", "time", "header")
REMEDY = re.compile(
    "choose another|call the column|name one|describe it|take it out|one column only"
)


def accepted(role: str, some=NASTY) -> list[str]:
    kept = []
    for name in some:
        try:
            as_role(role, name)
        except ValidationError:
            continue
        kept.append(name)
    return kept


@pytest.mark.parametrize("role", ROLES)
def test_a_name_that_is_refused_is_told_with_a_remedy(role):
    refused = sorted({*NASTY} - {*accepted(role)})
    for name in refused:
        with pytest.raises(ValidationError) as caught:
            as_role(role, name)
        for fault in caught.value.errors():
            assert name in fault["msg"], fault["msg"]
            assert REMEDY.search(fault["msg"]), fault["msg"]
    assert len(refused) < 60, refused
    assert {"min", "max", "sum", "round", "floor", "value", "class"}.isdisjoint(refused)


def made(table: Contract, columns: dict[str, list], rows: int = 400) -> pl.DataFrame:
    """Valid rows of a contract, a day apart, with these columns and the rest made up."""
    base = {
        **{name: [f"k{i}" for i in range(rows)] for name in table.key},
        table.event_time: [START + timedelta(days=i) for i in range(rows)],
        table.target.name: [100.0 + i for i in range(rows)],
        "size": [10.0 + i for i in range(rows)],
        "zone": ["ab"[i % 2] for i in range(rows)],
    }
    return pl.DataFrame(base | columns).select(table.columns)


def through(table: Contract, raw: pl.DataFrame) -> pl.DataFrame:
    """Rows as the tasks of a build make them: clock, rules, history, derived columns, parts."""
    rows = validation.conform(sources.with_clock(raw, table), table)
    rows = history.with_history(rows, history.facts(rows, table), table) if table.history else rows
    rows = row_features.with_derived(rows, table)
    windows_of = {"validation_days": 40, "test_days": 40, "holdout_share": 0.15}
    parted, _ = splits.split(rows, table, **windows_of)
    assert parted.height == raw.height
    return parted


@pytest.mark.medium
def test_a_feature_keeps_its_value_from_the_file_to_the_model():
    """Every accepted name at once, each a column with values of its own, and one formula each."""
    some = accepted("feature")
    number = {"type": "number", "example": 1.0, "meaning": "A number."}
    twice = {f"twice_{n}"[:100]: {"formula": f"{n} * 2 + size", "meaning": "Twice."} for n in some}
    table = contract(features=dict.fromkeys(some, number), derived=twice)
    values = {n: [float(place * 1000 + i) for i in range(400)] for place, n in enumerate(some)}
    rows = through(table, made(table, values))
    vocabulary = row_features.learn_categories(rows, table)
    inputs = row_features.input_names(table)
    X = row_features.encode(rows, inputs, vocabulary)
    requests = made(table, values).select(list(table.features)).to_dicts()
    assert len(set(inputs)) == len(inputs)
    at = rows["event_ts"].to_list()
    assert np.array_equal(
        row_features.records_matrix(requests, at, table, inputs, vocabulary), X, equal_nan=True
    )
    for name in some:
        assert rows[name].to_list() == values[name]
        twice_name = f"twice_{name}"[:100]
        wanted = np.array(values[name]) * 2 + rows["size"].to_numpy()
        assert np.array_equal(rows[twice_name].to_numpy(), wanted), name
        assert np.array_equal(X[:, inputs.index(name)], np.float32(values[name])), name


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["number", "category"])
def test_a_feature_keeps_its_value_from_a_request_to_the_monitor(kind):
    some = accepted("feature" if kind == "number" else "category")
    about = {"type": kind, "example": 1.0 if kind == "number" else "a", "meaning": "It."}
    table = contract(features=dict.fromkeys(some, about))
    given = {n: float(i) if kind == "number" else f"v{i}" for i, n in enumerate(some)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schemas = Schemas(table, 10)
    asked = given | {"size": 3.0, "zone": "b", "as_of": START.isoformat()}
    assert schemas.reader.read(asked) == (asked | {"as_of": START}, [])
    assert set(given) <= set(schemas.Row.model_json_schema()["properties"])
    inputs = row_features.input_names(table)
    vector = np.array([given.get(n, 3.0) if kind == "number" else i for i, n in enumerate(inputs)])
    request, features = orjson.dumps(given | {"zone": "b"}), vector.astype(np.float32).tobytes()
    answer = (
        "id",
        0,
        0,
        "m",
        "1",
        "champion",
        None,
        "predict",
        None,
        request,
        features,
        "d",
        b"{}",
    )
    layouts = log_tables.Layouts({"d": inputs}, {})
    of_a_number = (*answer, 7.0, 1, *[None] * 10)
    logged = log_tables.as_table([of_a_number], {"id": [(9.0, 5)]}, layouts, None)
    span = windows.Span(START, 1.0, 0.0)
    columns = windows.as_columns(logged, table, "1", span)
    for name in some:
        assert columns[name].item() == given[name], name
    assert columns["answer"].item() == 7.0
    assert columns["observed"].item() == 9.0


@pytest.mark.medium
def test_a_feature_keeps_its_value_in_the_reference():
    some = accepted("feature")
    number = {"type": "number", "example": 1.0, "meaning": "A number."}
    table = contract(features=dict.fromkeys(some, number))
    values = {n: [float(place * 1000 + i) for i in range(400)] for place, n in enumerate(some)}
    rows = through(table, made(table, values))
    frozen = pl.read_parquet(
        io.BytesIO(reference.freeze(rows, np.arange(400.0), table, seed=1))
    ).sort("event_ts")
    for name in some:
        assert sorted(frozen[name].to_list()) == sorted(values[name]), name
    assert frozen["observed"].to_list() == rows["rent"].to_list()


@pytest.mark.medium
def test_a_derived_and_a_trailing_column_keep_their_names():
    derived = {n: {"formula": "size * 2", "meaning": "Twice."} for n in accepted("derived")}
    seen = {"aggregate": "max", "window_days": 9, "meaning": "Seen."}
    trailing = {n: seen for n in accepted("trailing") if n not in derived}
    trailing |= {f"{n}_seen": seen for n in derived if len(n) < 90}
    table = contract(derived=derived, history={"value": "rent", "features": trailing})
    rows = through(table, made(table, {}))
    for name in derived:
        assert rows[name].to_list() == [2 * size for size in rows["size"]], name
    for name in trailing:
        assert rows[name].to_list()[2:] == rows["rent"].to_list()[:-2], name


@pytest.mark.medium
@pytest.mark.parametrize("role", ["target", "key", "time", "trailing"])
def test_a_row_goes_through_whatever_its_target_key_or_time_is_called(role):
    for name in accepted(role, sorted({*OURS, *FRAMES, *SQL, *names.OWN, "min", "class"})):
        seen = {"aggregate": "max", "window_days": 9, "meaning": "Seen."}
        about = as_role(role, name).model_dump()
        shown = name if role == "trailing" else "seen_before"
        about["history"] = {"value": f"{about['target']['name']} * 1", "features": {shown: seen}}
        table = Contract.model_validate(about)
        rows = through(table, made(table, {}, rows=200))
        assert rows[table.target.name].to_list() == [100.0 + i for i in range(200)], name
        assert rows[shown].to_list()[2:] == rows[table.target.name].to_list()[:-2], name
        assert rows[table.key[0]].to_list() == [f"k{i}" for i in range(200)], name


@pytest.mark.medium
def test_an_alias_is_taken_in_a_request():
    for name in accepted("alias"):
        table = as_role("alias", name)
        assert Schemas(table, 10).reader.read({name: 3.0}) == ({"own": 3.0}, []), name


FORMULAS = st.recursive(
    st.sampled_from(["max", "a_b", "1", "2.5", "log", "class", "1e3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", ">", "&", " if ", "%"]), inner).map("".join),
        st.tuples(st.sampled_from(["log", "abs", "floor", "max", "-", "~", ""]), inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"where({', '.join(p)})"),
    ),
    max_leaves=6,
)  # fmt: skip


@given(FORMULAS)
def test_a_formula_is_refused_or_computed(formula):
    """Whatever a formula says, it is no formula, cannot be computed, or gives numbers."""
    try:
        used = formula_names(formula)
    except SyntaxError:
        return
    if uncomputed(formula) is None:
        function, columns = compiled(formula)
        assert set(columns) == used <= {"max", "a_b", "log", "class", *FUNCTIONS}
        value = np.asarray(function(*(np.full(3, 2.0) for _ in columns)), np.float64)
        assert value.shape in ((), (3,))


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("max - min", 10.0),
        ("log(log) + log", np.log(11.0) + 11.0),
        ("floor(max/ min)", 11.0),
        ("class * 2", 22.0),
        ("where(max > min, max, min)", 11.0),
        ("max\n - min", 10.0),
        ("1e1 + min", 11.0),
        ("c__d + 1", 12.0),
    ],
)
def test_a_column_in_a_formula_is_the_column_whatever_it_is_called(formula, value):
    columns = {"max": 11.0, "min": 1.0, "log": 11.0, "class": 11.0, "c__d": 11.0}
    function, used = compiled(formula)
    assert uncomputed(formula) is None
    assert function(*(np.array([columns[name]]) for name in used)).item() == pytest.approx(value)


@pytest.mark.parametrize(
    "formula",
    ["size.real", "size[0]", "'a'", "lambda: 1", "size < 2 < 3", "1j * size", "size and 1", "size)",
     "().__class__", "(size := 1)", "size if size else 1", "~size", "1 / 0", "log()", "log(size, 2)",
     "max(size, 1)", "size(2)", "10**400 * size", "(" * 300 + "size" + ")" * 300, "", "1 + 1"],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused_before_anything_runs(formula):
    with pytest.raises(ValidationError, match=r"correct it|name one|neither a number"):
        contract(derived={"x": {"formula": formula, "meaning": "It."}})
