"""Versions and their watcher: whatever the registry holds or does, what answers goes on and says why."""

import asyncio
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import Ridge
from small_house import ROOT

from loopbook.features import rows as row_features
from loopbook.models import cards, export, inference, known_answers
from loopbook.project import clock
from loopbook.project.contract import read_contract
from loopbook.project.errors import PredictionLogError, RegistryError, VersionRefused
from loopbook.project.knobs import read_knobs
from loopbook.records.roles import CHALLENGER, CHAMPION
from loopbook.registry import artifacts, graph_file, reader, servable, service_files
from loopbook.registry.reader import CARD, ONNX, Version
from loopbook.registry.state_store import States
from loopbook.serving import versions
from loopbook.serving.metrics import Metrics
from loopbook.serving.versions import Parts, Versions
from loopbook.serving.watcher import Watcher

NUMBERS = ("a", "b", "c")


@cache
def table():
    """A contract of three numbers and a category, beside the example's."""
    about = read_contract(ROOT / "contract.yaml").model_dump(mode="json")
    feature = {"type": "number", "meaning": "a number", "example": 1.0}
    zone = {"type": "category", "meaning": "a zone", "example": "north"}
    about |= {
        "name": "small",
        "features": dict.fromkeys(NUMBERS, feature) | {"zone": zone},
        "target": about["target"] | {"transform": "none", "per": None},
    }
    for key in ("entity", "history", "coordinates"):
        about[key] = None
    about |= {"derived": {}, "slices": {}, "known_faults": []}
    return type(read_contract(ROOT / "contract.yaml")).model_validate(about)


@cache
def files() -> dict[str, bytes]:
    """A graph and its card, of a line over made-up rows."""
    draw = np.random.default_rng(1)
    columns = {n: draw.normal(10, 3, 400) for n in NUMBERS}
    zones = draw.choice(["north", "south", "west"], 400)
    rows = pl.DataFrame(columns | {"zone": zones}).with_columns(
        pl.lit(clock.utc_now()).alias(clock.EVENT_TS)
    )
    observed = 100 + 5 * rows["a"] - 3 * rows["b"] + rows["c"]
    contract = table()
    names = row_features.input_names(contract)
    vocabulary = row_features.learn_categories(rows, contract)
    X = row_features.encode(rows, names, vocabulary)
    model = Ridge().fit(X, observed.to_numpy() + 7 * X[:, 3])
    graph = export.export(model, contract, len(names))
    with_target = rows.with_columns(observed.alias(contract.target.name))
    examples = known_answers.rows_with_answers(
        with_target,
        contract,
        vocabulary,
        names,
        fitted=model.predict,
        exported=partial(inference.predict, inference.session(graph)),
    )
    snapshot = SimpleNamespace(sha256="0" * 64, as_of="2015-03-01")
    bounds = {"test_start": None, "holdout_share": 0.2}
    card = cards.make_card(
        contract,
        cards.Fit("ridge", vocabulary, with_target, bounds, snapshot),
        parity={"passed": True},
        validation={"mape": 0.1},
        examples=examples,
    )
    return {ONNX: graph, CARD: json.dumps(card, sort_keys=True).encode()}


class Shelf:
    """A registry in memory: versions with their files, and who holds which alias."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.alias: dict[str, str] = {}
        self.asked = 0
        self.disturb: Callable[[], Any] = lambda: None

    def put(self, number: str, **changed: bytes) -> None:
        content = files() | {{"onnx": ONNX, "card": CARD}[k]: v for k, v in changed.items()}
        self.files[number], self.tags[number] = content, service_files.file_tags(content)

    def held(self, name: str, alias: str) -> Version | None:
        self.asked += 1
        self.disturb()
        number = self.alias.get(alias)
        return number and Version("small", number, f"run-{number}", self.tags[number])

    def versions(self, name: str) -> list[Version]:
        return []

    def content(self, version: Version, file: str, folder: str = "", most: int = 0) -> bytes:
        return self.files[version.number][file]


class Log:
    """A log of which only the inputs matter here."""

    def __init__(self) -> None:
        self.database = SimpleNamespace(kind="sqlite", wait_s=10.0)
        self.disturb: Callable[[], Any] = lambda: None

    def know_inputs(self, digest: str, names: list[str], classes: list[str] | None) -> None:
        self.disturb()


class NoStates:
    """A store of calibration states that has none."""

    def states(self, model: str, version: str, known: States) -> States:
        return known


@pytest.fixture
def shelf() -> Shelf:
    found = Shelf()
    for number in ("1", "2"):
        found.put(number)
    found.alias[CHAMPION] = "1"
    return found


@pytest.fixture
def serving(shelf) -> Versions:
    knobs = read_knobs(ROOT / "env.yaml")
    return Versions(Parts(table(), knobs, shelf, Log(), NoStates(), None, Metrics()))


def answering(serving: Versions) -> str | None:
    return serving.current and serving.current.servable.number


def carded(change: Callable[[dict], Any]) -> bytes:
    """The card after a change."""
    card = json.loads(files()[CARD])
    change(card)
    return json.dumps(card).encode()


def swap_inputs(card: dict) -> None:
    one, two = (card["inputs"].index(n) for n in "ab")
    card["inputs"][one], card["inputs"][two] = "b", "a"


BROKEN = {
    "no JSON": (b"{", "card"),
    "another type": (b"[1]", "card"),
    "NaN": (files()[CARD].replace(b'"prediction": [', b'"prediction": [NaN, '), "card"),
    "nested without end": (b'{"inputs": ' + b"[" * 100_000, "card"),
    "a key that stands twice": (b'{"name": "x", ' + files()[CARD][1:], "card"),
    "of another model": (carded(lambda c: c.update(name="other")), "card"),
    "without inputs": (carded(lambda c: c.pop("inputs")), "card"),
    "inputs that are a text": (carded(lambda c: c.update(inputs="abc")), "card"),
    "an input twice": (carded(lambda c: c["inputs"].append("a")), "card"),
    "an input of nobody": (carded(lambda c: c["inputs"].append("x")), "card"),
    "one input fewer": (carded(lambda c: c["inputs"].pop(0)), "card"),
    "categories in a list": (carded(lambda c: c.update(categories=["zone"])), "card"),
    "no categories": (carded(lambda c: c.update(categories={})), "card"),
    "a category twice": (carded(lambda c: c["categories"]["zone"].append("north")), "card"),
    "a contract of nothing": (carded(lambda c: c.update(contract={})), "card"),
    "a contract that is null": (carded(lambda c: c.update(contract=None)), "card"),
    "no examples": (carded(lambda c: c.pop("examples")), "card"),
    "examples of other lengths": (carded(lambda c: c["examples"]["known"].pop()), "card"),
    "inputs exchanged": (carded(swap_inputs), "answers"),
    "categories exchanged": (carded(lambda c: c["categories"]["zone"].reverse()), "answers"),
    "another answer": (carded(lambda c: c["examples"]["known"].reverse()), "answers"),
    "no graph": (b"no ONNX at all", "graph"),
    "an empty graph": (b"", "graph"),
}  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_goes_on(what, shelf, serving):
    """Of every kind, registered with the right digests: nothing ends the watcher."""
    content, code = BROKEN[what]
    serving.refresh()
    shelf.put("2", **{"onnx" if "graph" in what else "card": content})
    shelf.alias[CHAMPION] = "2"
    assert not serving.refresh()
    assert answering(serving) == "1"
    fault = serving.faults[CHAMPION]
    assert (fault.version, fault.code) == ("2", code)
    assert fault.reason.startswith("small v2: ")
    shelf.put("3")
    shelf.alias[CHAMPION] = "3"
    assert serving.refresh()
    assert (answering(serving), serving.faults) == ("3", {})


def test_each_input_that_a_model_uses_and_the_order_of_each_two_are_told_by_some_example():
    """Whichever two inputs of a card are exchanged, the version is refused."""
    card = json.loads(files()[CARD])
    width = len(card["inputs"])
    for one in range(width):
        for two in range(one):

            def exchange(card: dict, one: int = one, two: int = two) -> None:
                names = card["inputs"]
                names[one], names[two] = names[two], names[one]

            shelf = Shelf()
            shelf.put("1", card=carded(exchange))
            with pytest.raises(VersionRefused, match="answers rows whose answers are known"):
                servable.load(shelf, Version("small", "1", "r", shelf.tags["1"]))


def test_examples_are_nobodys_rows():
    """Each column of the made-up rows is shuffled by itself."""
    draw = np.random.default_rng(3)
    numbers = draw.normal(0, 1, 300)
    rows = pl.DataFrame({n: numbers + place for place, n in enumerate(NUMBERS)})
    rows = rows.with_columns(zone=pl.lit("north"))
    pool, _ = known_answers._mixed(rows, table())
    real = set(rows.select(NUMBERS).iter_rows())
    assert sum(tuple(one[n] for n in NUMBERS) in real for one in pool) < 3


def test_a_version_of_an_earlier_loopbook_serves_and_that_is_told(shelf, serving, capsys):
    """Its card has no rows with known answers, and its registration no sizes."""

    def age(card: dict) -> None:
        for name in ("records", "at", "known"):
            del card["examples"][name]

    shelf.put("1", card=carded(age))
    for name in ("onnx_bytes", "card_bytes"):
        del shelf.tags["1"][name]
    assert serving.refresh()
    assert not serving.current.servable.is_checked_from_rows
    assert "earlier loopbook" in capsys.readouterr().err


@pytest.mark.parametrize("level", [None, "market_30d"])
def test_a_version_whose_target_has_a_key_that_is_gone_serves_on(level, shelf, serving):
    """Every card of before `target.level` went has it, most of them as null."""
    shelf.put("1", card=carded(lambda card: card["contract"]["target"].update(level=level)))
    assert serving.refresh()
    assert serving.current.servable.number == "1"


def graph_of(*nodes: onnx.NodeProto, takes: str = "features", width: Any = 4, gives="prediction"):
    inputs = [helper.make_tensor_value_info(takes, TensorProto.FLOAT, [None, width])]
    outputs = [helper.make_tensor_value_info(gives, TensorProto.FLOAT, [None, 1])]
    weights = numpy_helper.from_array(np.ones((4, 1), np.float32), "weights")
    node = helper.make_node("MatMul", [takes, "weights"], [gives])
    graph = helper.make_graph([*nodes, node], "g", inputs, outputs, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    "about", [{"takes": "other"}, {"gives": "other"}, {"width": 3}], ids=["in", "out", "width"]
)
def test_a_graph_that_takes_or_gives_something_else_is_refused(about, shelf, serving):
    model = graph_of(**{k: v for k, v in about.items() if k != "width"})
    if "width" in about:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = about["width"]
    shelf.put("1", onnx=model.SerializeToString())
    serving.refresh()
    assert serving.faults[CHAMPION].code == "graph"


def elsewhere(tensor: TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def test_a_graph_with_numbers_in_another_file_is_refused_wherever_the_tensor_stands(shelf, serving):
    """Among the weights, in an attribute, and within a branch of a branch."""
    outside = numpy_helper.from_array(np.ones(3, np.float32), "outside")
    elsewhere(outside)
    constant = helper.make_node("Constant", [], ["k"], value=outside)
    inner = helper.make_graph([constant], "inner", [], [])
    branch = helper.make_node("If", ["yes"], ["x"], then_branch=inner, else_branch=inner)
    deep = helper.make_graph([branch], "deep", [], [])
    nested = helper.make_node("If", ["yes"], ["y"], then_branch=deep, else_branch=deep)
    weights = graph_of()
    elsewhere(weights.graph.initializer[0])
    for model in (weights, graph_of(constant), graph_of(branch), graph_of(nested)):
        assert graph_file.points_elsewhere(model.SerializeToString())
    assert not graph_file.points_elsewhere(graph_of().SerializeToString() + b"\x3a\x00")
    named = graph_of(helper.make_node("Identity", ["features"], ["location"]))
    assert not graph_file.points_elsewhere(named.SerializeToString())
    shelf.put("1", onnx=weights.SerializeToString())
    serving.refresh()
    assert "files elsewhere" in serving.faults[CHAMPION].reason


def stored(folder: Path, number: str = "1") -> Version:
    """A version whose files are in a store on this disk."""
    run = folder / "store" / "0" / f"run-{number}" / "artifacts"
    (run / "service").mkdir(parents=True)
    for name, content in files().items():
        (run / "service" / name).write_bytes(content)
    return Version("small", number, f"run-{number}", service_files.file_tags(files()), run.as_uri())


def test_a_file_of_the_store_is_read_also_where_the_store_itself_is_behind_a_link(tmp_path):
    version = stored(tmp_path / "disk")
    (tmp_path / "project").symlink_to(tmp_path / "disk")
    moved = replace(version, artifacts=version.artifacts.replace("/disk/", "/project/"))
    for one in (version, moved):
        assert reader.SqlRegistry("sqlite:///x").content(one, ONNX) == files()[ONNX]


def out_of_the_store(kind: str, folder: Path, version: Version) -> Version:
    """A version whose graph is somewhere else, or no plain file."""
    service = folder / "store/0/run-1/artifacts/service"
    target = folder / "elsewhere"
    target.mkdir()
    (target / ONNX).write_bytes(files()[ONNX])
    if kind == "file":
        (service / ONNX).unlink()
        (service / ONNX).symlink_to(target / ONNX)
    elif kind == "folder":
        service.rename(folder / "away")
        service.symlink_to(target)
    elif kind == "run":
        (target / "artifacts").mkdir()
        (target / "artifacts" / "service").symlink_to(target)
        service.parents[1].rename(folder / "away")
        (folder / "store/0/run-1").symlink_to(target)
    elif kind == "pipe":
        (service / ONNX).unlink()
        os.mkfifo(service / ONNX)
    else:
        up = {"..": "/../../../../elsewhere/..", "%2e%2e": "/%2e%2e/%2e%2e/%2E%2E/elsewhere"}[kind]
        return replace(version, artifacts=version.artifacts + up)
    return version


@pytest.mark.parametrize("kind", ["file", "folder", "run", "pipe", "..", "%2e%2e"])
def test_a_way_out_of_the_store_is_refused_before_a_byte_is_read(kind, tmp_path):
    version = out_of_the_store(kind, tmp_path, stored(tmp_path))
    with pytest.raises(VersionRefused) as refused:
        reader.SqlRegistry("sqlite:///x").content(version, ONNX)
    assert refused.value.code == "place"
    assert str(tmp_path) not in str(refused.value)


def test_a_file_that_is_larger_than_the_registry_says_is_not_read(tmp_path, monkeypatch):
    """Two gigabytes of it, none of which reaches the disk."""
    version = stored(tmp_path)
    path = tmp_path / "store/0/run-1/artifacts/service" / ONNX
    with path.open("ab") as grown:
        grown.truncate(2**31)
    read = []
    monkeypatch.setattr(artifacts.os, "fdopen", lambda fd, mode: _Counted(fd, mode, read))
    with pytest.raises(VersionRefused, match=r"more than the [\d,]+ bytes") as refused:
        servable.load(reader.SqlRegistry("sqlite:///x"), version)
    assert refused.value.code == "size"
    assert max(read) < 10**6
    assert service_files.most_bytes(replace(version, tags={}), ONNX) == 2**29


class _Counted:
    """A file that tells how much of it is asked for."""

    def __init__(self, descriptor: int, mode: str, read: list[int]):
        self.file, self.read_sizes = open(descriptor, mode), read  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def read(self, size: int) -> bytes:
        self.read_sizes.append(size)
        return self.file.read(size)


@pytest.mark.parametrize("fault", ["missing", "forbidden", "a folder"])
def test_files_that_cannot_be_read_are_told_and_asked_for_again_at_the_next_look(
    fault, tmp_path, shelf, serving
):
    def unreadable(*_, **__):
        raise RegistryError(f"small v2: {fault}")

    serving.refresh()
    shelf.alias[CHAMPION] = "2"
    honest, shelf.content = shelf.content, unreadable
    serving.refresh()
    assert serving.faults[CHAMPION].code == "files"
    shelf.content = honest
    assert serving.refresh()
    path = tmp_path / "run-9" / "service" / ONNX
    if fault == "a folder":
        path.mkdir(parents=True)
    with pytest.raises(RegistryError, match="cannot be read"):
        artifacts.read("small v9", str(tmp_path / "run-9"), "run-9", f"service/{ONNX}", 10)


def test_a_log_that_is_locked_while_the_alias_moves_delays_the_version_and_ends_nothing(
    shelf, serving
):
    def locked() -> None:
        raise PredictionLogError("sqlite:///secret/place: cannot be used (database is locked)")

    serving.refresh()
    shelf.alias[CHAMPION] = "2"
    serving.log.disturb = locked
    assert not serving.refresh()
    assert answering(serving) == "1"
    fault = serving.faults[CHAMPION]
    assert fault.code == "log"
    assert "secret" not in fault.reason
    serving.log.disturb = lambda: None
    assert serving.refresh()
    assert answering(serving) == "2"


@pytest.mark.medium
@pytest.mark.parametrize(
    "error", [RuntimeError("x"), RegistryError("x"), MemoryError(), KeyError(1)]
)
def test_the_watcher_outlives_every_exception_looks_less_often_and_comes_back(
    error, shelf, serving
):
    shelf.disturb = lambda: (_ for _ in ()).throw(error)
    watcher = Watcher(serving, serving.metrics, every_s=0.01)

    async def watched() -> None:
        watching = asyncio.create_task(watcher.watch())
        while shelf.asked < 6:
            await asyncio.sleep(0.01)
        assert watcher.failed > 0
        assert watcher.pause_s > watcher.every_s
        assert serving.looked_at is None
        shelf.disturb = lambda: None
        while answering(serving) is None:
            assert not watching.done()
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(watched())
    assert serving.looked_at is not None
    assert serving.metrics.looked._value.get() == serving.looked_at.timestamp()


def test_a_look_that_breaks_as_a_whole_is_told_and_the_next_one_comes(serving, capsys):
    """What nobody has thought of, at the worst place."""
    looks = []

    def refresh(by_hand: bool = False) -> bool:
        looks.append(by_hand)
        raise SystemError("what nobody thought of: secret")

    serving.refresh = refresh
    watcher = Watcher(serving, serving.metrics, every_s=0.001)

    async def watched() -> None:
        watching = asyncio.create_task(watcher.watch())
        while len(looks) < 3:
            await asyncio.sleep(0.001)
        assert not watching.done()
        watching.cancel()

    asyncio.run(watched())
    told = capsys.readouterr().err
    assert '"error":"SystemError"' in told
    assert "secret" not in told


def test_a_rollback_waits_for_no_registry_that_hangs(shelf, serving):
    """The look is under way all the while, and does not bring the version back."""
    serving.refresh()
    shelf.alias[CHAMPION] = "2"
    serving.refresh()
    gate, reached = threading.Event(), threading.Event()

    def hang() -> None:
        reached.set()
        gate.wait()

    shelf.disturb = hang
    look = threading.Thread(target=serving.refresh)
    look.start()
    reached.wait()
    assert serving.roll_back().servable.number == "1"
    assert look.is_alive()
    gate.set()
    look.join()
    assert answering(serving) == "1"


def test_a_version_that_was_rolled_back_serves_when_the_alias_asks_for_it_again(shelf, serving):
    """Alias 1, 2, rollback, 1, 2; and where the move to 1 and back fell between two looks."""

    def follow(number: str) -> str:
        shelf.alias[CHAMPION] = number
        serving.refresh()
        return answering(serving)

    assert [follow("1"), follow("2")] == ["1", "2"]
    serving.roll_back()
    assert follow("2") == "1"
    assert [follow("1"), follow("2")] == ["1", "2"]
    serving.roll_back()
    assert follow("2") == "1"
    shelf.tags["2"]["promoted_at"] = "2026-01-01"
    assert follow("2") == "2"
    serving.roll_back()
    assert follow("2") == "1"


def test_a_challenger_that_is_refused_ends_the_one_before_and_not_the_champion(shelf, monkeypatch):
    knobs = read_knobs(ROOT / "env.yaml", {"serve_challenger": "canary"})
    serving = Versions(Parts(table(), knobs, shelf, Log(), NoStates(), None, Metrics()))
    shelf.alias[CHALLENGER] = "2"
    serving.refresh()
    assert serving.challenger.servable.number == "2"
    shelf.put("3", card=b"{")
    shelf.alias[CHALLENGER] = "3"
    serving.refresh()
    assert (serving.challenger, answering(serving)) == (None, "1")
    assert serving.faults[CHALLENGER].code == "card"


def test_a_version_that_is_refused_is_loaded_again_only_after_a_while_or_by_hand(
    shelf, serving, monkeypatch
):
    loads = []
    load = versions.load
    monkeypatch.setattr(versions, "load", lambda *a: loads.append(1) or load(*a))
    shelf.put("1", card=b"{")
    for _ in range(3):
        serving.refresh()
    assert len(loads) == 1
    serving.refresh(by_hand=True)
    assert len(loads) == 2
    monkeypatch.setattr(versions, "REFUSED_S", 0)
    serving.refresh()
    assert len(loads) == 3


ANSWERS = {
    "HTML": (b"<html><body>Sign in</body></html>", "text/html"),
    "another JSON": (b'{"detail": "ok"}', "application/json"),
    "a list": (b"[]", "application/json"),
    "a wrong type": (b'{"model_version": {"version": "x", "run_id": 7, "tags": 3}}', "text/json"),
    "nothing": (b"", "application/json"),
    "more than an answer holds": (b" " * (reader.ANSWER_BYTES + 10), "application/json"),
}


@pytest.mark.medium
@pytest.mark.parametrize("what", ANSWERS)
def test_a_registry_that_answers_something_else_is_named_and_survived(what, serving):
    """A proxy's page, another service, a broken one: a sentence, and no exception of a parser."""
    content, kind = ANSWERS[what]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        serving.registry = reader.connect(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(RegistryError, match="something else than an MLflow server does"):
            serving.registry.held("small", CHAMPION)
        assert not serving.refresh()
        server.shutdown()
    fault = serving.faults[CHAMPION]
    assert fault.code == "registry"
    assert "127.0.0.1" not in serving.reason + fault.reason
