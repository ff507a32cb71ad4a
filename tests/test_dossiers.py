"""Dossiers: all that is on record about a version, on a page, in a bill of materials, signed."""

import base64
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cyclonedx.schema
import mlflow
import numpy as np
import paged
import pytest
import small_classes
import small_house
from jsonschema import Draft7Validator
from made_once import copied
from mlflow.tracking._tracking_service import utils as artifact_places
from reading import with_spaces
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7
from small_classes import NUMBER, TASKS, table

from loopbook.pages import dashboards, dossier
from loopbook.pages.recorded import UNRECORDED
from loopbook.project.clock import utc_now
from loopbook.project.errors import RegistryError, VersionRefused
from loopbook.project.files import sha256
from loopbook.project.paths import Project
from loopbook.provenance import bill_of_materials, dossier_files, dossiers, signatures, statements
from loopbook.provenance.dossier_files import BILL, PAGE, RECORD
from loopbook.provenance.dossiers import Sources
from loopbook.records.roles import CHAMPION
from loopbook.registry import champions, kept_code, tracking
from loopbook.registry.reader import CARD
from loopbook.serving import scoring

pytestmark = pytest.mark.medium

RUN = {
    "tags": {"python": "3.12.1", "git_commit": "abc", "git_dirty": "false", "mlflow.user": "x"},
    "params": {"random_seed": "7"},
}
BUILD = {
    "split": {"counts": {"train": 400, "validation": 100, "test": 100}, "categories": {}},
    "validation": {
        "left_out": [{"where": {}, "rows": 3, "reason": "a slip of the pen"}],
        "set_aside": [{"id": "1"}, {"id": "2"}],
        "leaks": [
            {"columns": ["size"], "evidence": "size tells 98 % of it", "accepted": "known before"}
        ],
    },
}
STATE = {
    "as_of": "2025-02-01T00:00:00+00:00",
    "truths": 57,
    "reason": "the level of 57 truths",
    "shift": [0.0123],
    "low": [-0.31],
    "high": [0.29],
    "least": 0.07,
}


def files(
    task: str, folder: Path, shelf: paged.Built | None = None, **changed: Any
) -> dict[str, bytes]:
    """The files of the dossier of a version of a small table."""
    folder.mkdir(exist_ok=True)
    shutil.copy(small_house.ROOT / "env.yaml", folder)
    run = SimpleNamespace(data=SimpleNamespace(**RUN))
    client = SimpleNamespace(get_run=lambda run_id: run)
    shelf = shelf or paged.Built(task)
    sources = Sources(Project(folder), table(task), shelf, client)
    draw = lambda record: dossier.page(record | {"calibration": STATE} | changed)  # noqa: E731
    found = dossiers.make(sources, shelf.held(table(task).name, CHAMPION), draw, BUILD)
    record = json.loads(found[RECORD]) | {"calibration": STATE} | changed
    return found | {RECORD: json.dumps(record).encode()}


class Read(HTMLParser):
    """What stands on a page: its values with their places, and the text beside them."""

    def __init__(self, page: str):
        super().__init__()
        self.values: list[tuple[str, Any]] = []
        self.beside, self.of_person = "", ""
        self.open: list[str] = []
        self.sections: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        if tag in ("style", "title", "data", "th", "h1", "h2", "h3", "p", "span"):
            self.open.append("person" if about.get("class") == "person" else tag)
        if tag == "data":
            self.values.append((about["data-from"], json.loads(about["value"])))
            if "person" in self.open:
                self.of_person += about["value"]

    def handle_endtag(self, tag):
        if self.open and tag in (
            self.open[-1],
            *(["p", "span"] if self.open[-1] == "person" else []),
        ):
            self.open.pop()

    def handle_data(self, text):
        if "h2" in self.open and "span" in self.open:
            self.sections.append(text)
        if not {"style", "title", "data", "th", "h1", "h2", "h3", "person"} & {*self.open}:
            self.beside += text


def at(record: Any, pointer: str) -> Any:
    """What a JSON Pointer points to (RFC 6901)."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        record = record[int(name)] if isinstance(record, list) else record[name]
    return record


# -- the page ------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_every_number_of_a_dossier_is_the_records(task, tmp_path):
    """Each value says where it stands in the record; a digit anywhere else would be nobody's."""
    made = files(task, tmp_path)
    record, read = json.loads(made[RECORD]), Read(made[PAGE].decode())
    assert len(read.values) > 100
    assert {pointer: at(record, pointer) for pointer, _ in read.values} == dict(read.values)
    known = ("SHA-256", "2024/1689", "1 (g)", "2 (d)", "Article 9", "Article 47", "Article 72")
    for words in known:
        read.beside = read.beside.replace(words, "")
    assert not [word for word in read.beside.split() if any(sign.isdigit() for sign in word)]


def test_a_number_is_shown_as_its_measure_says(tmp_path):
    made = files(NUMBER, tmp_path)
    first = json.loads(made[RECORD])["decision"]["ranked"][0]["loss"]
    told = f'<data value="{first}" data-from="/decision/ranked/0/loss">'
    assert with_spaces(made[PAGE].decode()).split(told)[1].split("</data>")[0] == f"{first:.2f} kg"


def test_the_headings_are_those_of_annex_iv_in_its_order(tmp_path):
    read = Read(files(NUMBER, tmp_path)[PAGE].decode())
    one = ["1 (a)", "1 (b)", "1 (c)", "1 (d) to (f)", "1 (g) and (h)"]
    two = [f"2 ({letter})" for letter in "abcdefgh"]
    assert read.sections == [*one, *two, *"3456789"]


def test_what_only_a_person_can_say_is_asked_and_never_answered(tmp_path):
    page = files(NUMBER, tmp_path)[PAGE].decode()
    assert page.count("For a person:") > 15
    assert Read(page).of_person == ""
    for heading in ("Risk management", "Declaration of conformity", "Standards"):
        assert "For a person:" in page.split(f"{heading}</h2>")[1].split("<section>")[0], heading


PARTS = {
    "model card": "/card/target/meaning",
    "data sheet": "/build/split/counts/train",
    "slices": "/decision/against/baseline/all rows/high",
    "leaks looked for": "/build/validation/leaks/0/evidence",
    "explanations": "/decision/importance/0/rise",
    "calibration": "/calibration/shift/0",
    "intervals": "/calibration/high/0",
    "drift baseline": "/card/reference/size/quantiles/0.99",
    "the gate's record": "/decision/checks/0/reason",
    "lineage": "/run/tags/git_commit",
    "limits": "/card/contract/features/size/range/1",
    "monitoring": "/knobs/monitor_window_days",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_dossier_has(part, tmp_path):
    assert PARTS[part] in dict(Read(files(NUMBER, tmp_path)[PAGE].decode()).values)


def test_what_was_not_recorded_is_said_so_and_not_computed(tmp_path):
    page = files(NUMBER, tmp_path, build=None, calibration=None)[PAGE].decode()
    assert f"<td>rows that taught</td><td>{UNRECORDED}</td>" in page.replace("\n", "")
    assert "What was found of the table and of the split is not with the run." in page
    assert "No calibration state is on record" in page


def test_no_word_of_the_data_becomes_markup(tmp_path):
    nasty = "<script>alert(1)</script>\"'"
    page = files(NUMBER, tmp_path, meaning=nasty)[PAGE].decode()
    assert "alert(1)" in page
    assert "<script" not in page


def test_no_password_of_the_contract_stands_in_a_dossier(tmp_path):
    shelf = paged.Built(NUMBER)
    card = json.loads(shelf.files["1"][CARD])
    card["contract"]["source"] = {"database": "postgresql://me:secret-7@db/rows"}
    shelf.files["1"] = shelf.files["1"] | {CARD: json.dumps(card).encode()}
    made = files(NUMBER, tmp_path, shelf)
    assert b"postgresql://me:***@db/rows" in made[RECORD]
    assert not [name for name, content in made.items() if b"secret-7" in content]


def test_the_place_of_an_origin_is_the_one_where_it_is_kept():
    place = f"{kept_code.FOLDER}/{kept_code.MANIFEST}"
    assert {place: kept_code.TAG} == dossier_files.ORIGIN


# -- the bill of materials -----------------------------------------------------


def validator() -> Draft7Validator:
    """CycloneDX's own schema, with those that it refers to."""
    folder = Path(cyclonedx.schema.__file__).parent / "_res"
    names = ("bom-1.6", "spdx", "jsf-0.82")
    schemas = [json.loads((folder / f"{n}.SNAPSHOT.schema.json").read_text()) for n in names]
    known = [(s["$id"], Resource.from_contents(s, default_specification=DRAFT7)) for s in schemas]
    return Draft7Validator(schemas[0], registry=Registry().with_resources(known))


@pytest.mark.parametrize("task", TASKS)
def test_a_bill_of_materials_keeps_its_schema_and_has_the_records_numbers(task, tmp_path):
    made = files(task, tmp_path)
    record, bill = json.loads(made[RECORD]), json.loads(made[BILL])
    assert not [error.message for error in validator().iter_errors(bill)]
    model = bill["metadata"]["component"]
    assert model["hashes"][0]["content"] == record["registered"]["onnx_sha256"]
    told = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    interval = record["decision"]["against"]["baseline"]["all rows"]
    (of_all,) = [one for one in told if one["slice"] == "all rows"]
    assert float(of_all["confidenceInterval"]["upperBound"]) == interval["high"]
    validated = {one["type"]: one["value"] for one in told if one["slice"] == "validation"}
    assert validated == {n: str(v) for n, v in record["card"]["validation"].items()}


def test_a_bill_that_broke_its_schema_would_be_seen(tmp_path):
    bill = json.loads(files(NUMBER, tmp_path)[BILL])
    bill["metadata"]["component"]["modelCard"]["accuracy"] = 1
    assert len([*validator().iter_errors(bill)]) == 1


def test_the_packages_are_those_of_the_lock_and_unknown_without_it(tmp_path):
    record = json.loads(files(NUMBER, tmp_path)[RECORD])
    lock = "numpy==2.4.0 \\\n    --hash=sha256:00\n# a==1\nTyping_Extensions==4.1 ; python > '3'\n"
    bill = bill_of_materials.make(record, lock)
    libraries = [c["purl"] for c in bill["components"] if c["type"] == "library"]
    assert libraries == ["pkg:pypi/numpy@2.4.0", "pkg:pypi/typing-extensions@4.1"]
    assert bill["compositions"][0]["aggregate"] == "complete"
    unknown = bill_of_materials.make(record, None)
    assert unknown["compositions"][0]["aggregate"] == "unknown"
    assert [c["type"] for c in unknown["components"]] == ["data"]


# -- with the run --------------------------------------------------------------


@pytest.fixture(scope="module")
def registered(tmp_path_factory) -> Path:
    """A project with a version, whose run has the record of its build."""
    folder = small_classes.make_project(tmp_path_factory.mktemp("registered") / "house", NUMBER)
    small_classes.give(folder, NUMBER)
    with pytest.MonkeyPatch.context() as patch:
        within(folder, patch)
        client = tracking.connect(Project(folder))
        (version,) = tracking.versions(client, table(NUMBER).name)
        record = folder / "decision.json"
        record.write_text(json.dumps(paged.decision(NUMBER)))
        tracking.log_files(client, version.run_id, [record], "decision")
    return folder


def within(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """Stand in a project, with a key of its own."""
    patch.chdir(folder)
    for name, value in Project(folder).environment().items():
        patch.setenv(name, value)
    patch.setenv(signatures.VARIABLE, str(folder.parent / "signing.pem"))
    artifact_places._artifact_repos_cache.clear()  # MLflow's, by run: a copy has the same runs
    return Project(folder)


@pytest.fixture
def house(registered, tmp_path, monkeypatch) -> Iterator[Sources]:
    project = within(copied(registered, tmp_path / "house"), monkeypatch)
    return dossiers.sources_of(project, table(NUMBER))


def keep(house: Sources, **more: Any) -> dossiers.Kept:
    return dossiers.keep(house, "1", dossier.page, now=utc_now(), **more)


def test_a_dossier_is_kept_and_signed_once(house):
    signer = signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    kept = keep(house, build=BUILD)
    assert (kept.is_new, kept.signer) == (True, signer.id)
    page = dossier_files.content(house.registry, kept.version, PAGE)
    statement = statements.require(house.registry, kept.version, house.project.signers)
    assert statement.digests[f"dossier/{PAGE}"] == sha256(page)
    assert {"service/model.onnx", "service/card.json", "snapshot"} <= {*statement.digests}
    assert statements.altered(house.registry, kept.version, statement.digests) == []
    again = keep(house)
    assert (again.is_new, again.signer, again.version.tags) == (False, signer.id, kept.version.tags)
    assert dossier_files.content(house.registry, kept.version, PAGE) == page


def test_without_a_key_a_dossier_is_kept_unsigned_and_a_key_signs_it_later(house):
    kept = keep(house)
    assert kept.signer is None
    assert "Make one: loopbook keys sign --create" in kept.sentence
    signer = signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    later = keep(house)
    assert (later.is_new, later.signer) == (False, signer.id)


def test_a_key_that_is_trusted_no_more_is_replaced_by_one_that_is(house):
    signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    first = keep(house)
    house.project.signers.unlink()
    signatures.rotate(house.project, house.contract.name, now=utc_now(), by="ana")
    second = keep(house)
    assert first.signer != second.signer == second.version.tags[statements.SIGNED_BY]


@pytest.mark.parametrize(
    "name", ["dossier/dossier.html", "dossier/bom.cdx.json", "service/card.json"]
)
def test_a_byte_that_was_changed_is_found(name, house):
    signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    version = keep(house).version
    statement = statements.require(house.registry, version, house.project.signers)
    path = Path(version.artifacts.removeprefix("file://")) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (fault,) = statements.altered(house.registry, version, statement.digests)
    assert f"{name} has SHA-256" in fault
    path.unlink()
    assert "cannot be read" in statements.altered(house.registry, version, statement.digests)[0]


def test_what_was_changed_is_not_signed(house):
    version = keep(house).version
    path = Path(version.artifacts.removeprefix("file://")) / "service" / CARD
    path.write_bytes(path.read_bytes() + b" ")
    signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    kept = keep(house)
    assert kept.signer is None
    assert "service/card.json has SHA-256" in kept.sentence


def test_a_dossier_that_was_changed_is_not_given_out(house):
    version = keep(house).version
    path = Path(version.artifacts.removeprefix("file://")) / "dossier" / PAGE
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RegistryError, match=r"dossier\.html has SHA-256 .* was changed; restore"):
        dossier_files.content(house.registry, version, PAGE)


def test_an_unknown_version_is_said_with_those_that_there_are(house):
    with pytest.raises(RegistryError, match="has no version '9'; there are v1"):
        dossiers.keep(house, "9", dossier.page, now=utc_now())


def test_a_promotion_stands_where_no_dossier_can_be_made(house):
    """The record of its build is gone: what is missing is said, and what to type."""
    (version,) = house.registry.versions(house.contract.name)
    shutil.rmtree(Path(version.artifacts.removeprefix("file://")) / "decision")
    told = dossiers.told(house, "1", dossier.page, now=utc_now(), build=BUILD)
    assert "decision.json cannot be read" in told
    assert told.endswith("Then: loopbook dossier 1")


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow's own
def test_mlflow_says_why_a_version_serves_with_its_signature_and_an_example(house):
    name = house.contract.name
    (version,) = tracking.versions(house.client, name)
    tracking.drop_alias(house.client, name, CHAMPION)
    change = champions.Change(champions.HAND, "it is the best", utc_now(), "2025-02-01T00:00:00")
    champions.promote(house.client, version, change)
    keep(house)
    model, described = house.client.get_registered_model(name), house.client.get_model_version
    assert model.description.startswith("A row is a thing. v1 serves, decided by hand, done at")
    assert "as of 2025-02-01 00:00 UTC. it is the best" in described(name, "1").description
    assert (
        f"runs/{version.run_id}/artifacts/dossier/dossier.html" in described(name, "1").description
    )
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 3)
    assert np.isfinite(loaded.predict(loaded.input_example)).all()


def test_a_version_that_was_rolled_back_is_described_so(house):
    name = house.contract.name
    (version,) = tracking.versions(house.client, name)
    tracking.set_version_tag(house.client, version, "barred", "worse than before")
    tracking.drop_alias(house.client, name, CHAMPION)
    keep(house)
    assert house.client.get_model_version(name, "1").description.startswith(
        "Does not serve: it was rolled back. worse than before."
    )
    assert house.client.get_registered_model(name).description.endswith(
        "None of its versions serves."
    )


def card_page(house: Sources) -> str:
    version = dossiers.find(house.registry, house.contract.name, "1")
    return dashboards._card(house.project, house.registry, version)


def test_the_model_card_links_the_dossier_and_says_who_signed_it(house):
    assert "has no dossier yet. Make it: loopbook dossier 1" in card_page(house)
    version = keep(house).version
    assert "Annex IV of the EU AI Act. Nobody has signed it." in card_page(house)
    signer = signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    keep(house)
    shown = card_page(house)
    assert f"Signed by key {signer.id} of ana" in shown
    linked = shown.split('href="data:text/html;base64,')[1].split('"')[0]
    assert base64.b64decode(linked) == dossier_files.content(house.registry, version, PAGE)


def test_where_a_signature_is_required_only_a_signed_champion_scores(house):
    small_house.set_knobs(house.project.root, require_signature="true")
    with pytest.raises(VersionRefused, match=r"nobody has signed it.*loopbook dossier 1 --sign"):
        scoring.champion(house.project, house.contract)
    signatures.create(house.project, house.contract.name, now=utc_now(), by="ana")
    keep(house)
    assert scoring.champion(house.project, house.contract).number == "1"
