"""Verification: whatever is kept and was changed is found and named, and nothing else is."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import kept
import pytest
from made_once import copied
from out_of_date import inside
from small_house import set_knobs
from typer.testing import CliRunner

from loopbook.cli import main as cli
from loopbook.data import prediction_log
from loopbook.loop import upkeep
from loopbook.project.contract import read_contract
from loopbook.project.errors import VerificationError
from loopbook.project.files import sha256
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.provenance import (
    dossier_files,
    dossiers,
    kept_rows,
    signatures,
    statements,
    verification,
)
from loopbook.provenance.dossiers import Sources
from loopbook.provenance.findings import CHANGED, MISSING, UNREPRODUCIBLE
from loopbook.provenance.kept_files import KINDS, kind_of, names_of
from loopbook.records import seals, turns
from loopbook.registry import calibration, champions, tracking
from loopbook.registry.service_files import DIGEST_TAGS

pytestmark = pytest.mark.medium


@pytest.fixture
def project(everything, tmp_path) -> Iterator[Project]:
    with inside(copied(everything, tmp_path / "house")) as there:
        yield there


def found(project: Project, *, quick: bool = False) -> dict[str, str]:
    """Where something was found, and what."""
    return {one.where: one.what for one in verification.verify(project, quick=quick).findings}


def typed(*words: str) -> tuple[int, str]:
    """The exit code of a command of ours, typed in this process, and what it printed."""
    done = CliRunner().invoke(cli.app, [*words], catch_exceptions=False)
    return done.exit_code, done.stdout


def change(database: Path, statement: str, *values) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        assert opened.execute(statement, values).rowcount == 1, statement


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place if place >= 0 else len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def files(project: Project) -> dict[str, Path]:
    """Every sealed file, by its name."""
    with verification._opened(project) as there:
        return {name: there.shelf.place(name) for name in names_of(there.ledger)}


def test_what_nobody_touched_is_as_it_was_and_everything_is_sealed(project):
    for quick in (True, False):
        report = verification.verify(project, quick=quick)
        assert report.findings == []
        assert not [note for note in report.notes if "sealed" in note]
    kinds = {kind_of(name) for name in names_of(seals.read(project))}
    in_runs = {"graphs, cards, references and residuals", "executed notebooks"}
    assert kinds >= {*KINDS.values(), *in_runs, "decisions of the gate", "other files of runs"}
    tables = {name.split("/")[1] for name in seals.read(project).below("log/")}
    assert tables == {"inputs", *(table.name for table in kept_rows.TABLES)}


def test_a_byte_that_was_changed_in_any_kept_file_is_found_and_named(project):
    every = files(project)
    for path in every.values():
        flip(path)
    assert found(project).keys() >= every.keys()


def test_a_file_that_is_gone_is_found_quickly_and_so_is_a_byte_of_what_serves(project):
    every = files(project)
    graph = next(name for name in every if name.endswith("model.onnx"))
    turn = "var/loop/turns/000001.json"
    picture = next(name for name in every if name.endswith("importance.png"))
    flip(every[graph])
    flip(every[turn])
    every[picture].unlink()
    assert found(project, quick=True) == {graph: CHANGED, turn: CHANGED, picture: MISSING}


ROWS = {
    "predictions": ("id", f"{1500:032x}", f"id {999:032x} to {1999:032x}"),
    "ground_truth": ("seq", 7, "seq the first to 200"),
    "pruned": ("seq", 1, "seq the first to 1"),
    "calibration_states": ("seq", 1, "seq the first to 2"),
}


@pytest.mark.parametrize("table", kept_rows.TABLES, ids=lambda table: table.name)
def test_every_column_of_a_logged_row_is_sealed_and_a_change_is_placed(table, project):
    key, which, where = ROWS[table.name]
    log = prediction_log.connect(project, read_contract(project.contract))
    ledger, place = seals.read(project), project.var / "predictions.db"
    (row,) = log.database.read(
        f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {key} = ?", (which,)
    )
    for column, before in zip(table.columns, row, strict=True):
        if column == key:
            continue
        after = before + 1 if isinstance(before, (int, float)) else (before or "xy")[:-1]
        put = f"UPDATE {table.name} SET {column} = ? WHERE {key} = ?"
        change(place, put, after, which)
        (finding,) = kept_rows.check(log, ledger)[0]
        assert (finding.what, finding.where) == (CHANGED, f"prediction log, {table.name}, {where}")
        change(place, put, before, which)
    assert kept_rows.check(log, ledger)[0] == []


def test_a_byte_of_the_logs_file_is_found_where_it_is_part_of_an_answer(project):
    path = project.var / "predictions.db"
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    flip(path, path.read_bytes().index(b'"size":2047') + 8)
    assert found(project) == {f"prediction log, predictions, id the first to {999:032x}": CHANGED}


@pytest.mark.parametrize("statement", ["DELETE FROM predictions WHERE id = ?", "INSERT INTO predictions "
    "SELECT id || 'a', " + ", ".join(kept_rows.COLUMNS[1:]) + " FROM predictions WHERE id = ?"])  # fmt: skip
def test_an_answer_that_was_taken_out_or_put_in_is_found(statement, project):
    change(project.var / "predictions.db", statement, f"{1200:032x}")
    ((where, what),) = found(project).items()
    assert where.startswith(f"prediction log, predictions, id {999:032x} to ")
    assert what == (MISSING if "DELETE" in statement else CHANGED)


def test_a_log_that_was_lost_is_found(project):
    for path in project.var.glob("predictions.db*"):
        path.unlink()
    assert found(project)["prediction log"] == MISSING


def test_answers_after_the_last_seal_are_said_to_be_open_and_are_sealed_with_the_next(project):
    kept.answers(project, range(kept.ANSWERS, kept.ANSWERS + 10))
    report = verification.verify(project)
    assert report.findings == []
    assert [note for note in report.notes if note.startswith("10 answers are not sealed yet")]
    assert kept.seal_log(project) == 21  # with their ground truth, and one pruning
    assert verification.verify(project).notes == []
    change(
        project.var / "predictions.db",
        "UPDATE predictions SET answer = 1 WHERE id = ?",
        f"{2505:032x}",
    )
    assert list(found(project, quick=True).values()) == [CHANGED]


def test_what_a_person_prunes_is_no_finding_and_a_change_before_it_stays_one(project):
    prune = ["log", "prune", "--older-than", (kept.START + timedelta(seconds=700)).isoformat()]
    assert "Deleted 700 answers" in typed(*prune)[1]
    assert found(project) == {}
    change(
        project.var / "predictions.db",
        "UPDATE predictions SET answer = 1 WHERE id = ?",
        f"{2000:032x}",
    )
    assert typed(*prune[:-1], "2015-03-02T00:20:00Z")[0] == 0
    assert any(where.startswith("prediction log, predictions") for where in found(project))


REGISTRY = {
    "a tag of a version": ("UPDATE model_version_tags SET value = 'x' WHERE key = 'gate_reason'", f"version/{kept.NAME}/1, tag gate_reason"),
    "a metric": ("UPDATE latest_metrics SET value = 9 WHERE key = 'test_mae'", "run/{run}, metric test_mae"),
    "who served": ("UPDATE registered_model_tags SET value = replace(value, 'outside', 'inside') WHERE key = 'champion_000001'", f"name/{kept.NAME}, tag champion_000001"),
    "the alias": ("UPDATE registered_model_aliases SET version = 7 WHERE alias = 'champion'", f"alias champion of {kept.NAME}"),
    "a run": ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{run}'", "run/{run}"),
}  # fmt: skip


@pytest.mark.parametrize("what", REGISTRY)
def test_what_the_registry_says_is_sealed(what, project):
    statement, where = REGISTRY[what]
    run = tracking.holder(tracking.connect(project), kept.NAME, tracking.CHAMPION).run_id
    change(project.mlflow / "mlflow.db", statement.format(run=run))
    assert where.format(run=run) in found(project)


@pytest.fixture
def signed(project, monkeypatch, tmp_path) -> Sources:
    """The project with a dossier of its version, signed by its key."""
    monkeypatch.setenv(signatures.VARIABLE, str(tmp_path / "signing.pem"))
    signatures.create(project, kept.NAME, now=kept.START, by="ana")
    sources = dossiers.sources_of(project, read_contract(project.contract))
    assert dossiers.keep(sources, "1", lambda record: "<p>a page</p>", now=kept.START).signer
    return sources


def alter(sources: Sources, file: str, before: bytes, after: bytes) -> None:
    """Another file in the place of one: by somebody who can write the run, its tag and the ledger."""
    (version,) = sources.registry.versions(kept.NAME)
    folder, _, name = file.rpartition("/")
    other = sources.project.root / name
    other.write_bytes(sources.registry.content(version, name, folder).replace(before, after))
    tracking.log_files(sources.client, version.run_id, [other], folder)
    if tag := {**DIGEST_TAGS, **dossier_files.TAGS}.get(name):
        tracking.set_version_tag(sources.client, version, tag, sha256(other.read_bytes()))


ALTERED = {
    "digest of dossier/dossier.html": ("dossier/dossier.html", b"a page", b"another"),
    "digest of service/card.json": ("service/card.json", b"{", b"{ "),
    "dossier/statement.dsse.json": ("dossier/statement.dsse.json", b'"sig": "', b'"sig": "AAAA'),
}


@pytest.mark.parametrize("where", ALTERED)
def test_what_was_signed_and_altered_is_found_though_its_tag_and_its_seal_are_altered_too(
    where, signed
):
    for quick in (True, False):
        report = verification.verify(signed.project, quick=quick)
        assert (report.findings, report.looked_at["signatures"]) == ([], 1)
    alter(signed, *ALTERED[where])
    for quick in (True, False):
        assert found(signed.project, quick=quick)[f"{kept.NAME} v1, {where}"] == CHANGED


def test_what_a_key_signed_that_is_trusted_no_longer_or_nobody_signed_is_found(signed):
    envelope = f"{kept.NAME} v1, dossier/statement.dsse.json"
    signed.project.signers.unlink()
    assert found(signed.project, quick=True) == {envelope: CHANGED}
    signed.client.delete_model_version_tag(kept.NAME, "1", statements.SIGNED_BY)
    set_knobs(signed.project.root, require_signature="true")
    assert found(signed.project, quick=True)[envelope] == MISSING


def test_an_altered_dossier_that_nobody_signed_is_found_by_the_registrys_digest(project):
    sources = dossiers.sources_of(project, read_contract(project.contract))
    dossiers.keep(sources, "1", lambda record: "<p>a page</p>", now=kept.START)
    (version,) = sources.registry.versions(kept.NAME)
    page = project.root / dossier_files.PAGE
    page.write_text("<p>another page</p>")
    tracking.log_files(sources.client, version.run_id, [page], dossier_files.FOLDER)
    assert found(project) == {f"{kept.NAME} v1, dossier/dossier.html": CHANGED}


def test_a_tag_that_somebody_adds_is_no_change_of_what_was_sealed(project):
    client = tracking.connect(project)
    client.set_model_version_tag(kept.NAME, "1", "owner", "somebody")
    assert found(project) == {}
    version = tracking.holder(client, kept.NAME, tracking.CHAMPION)
    tracking.set_version_tag(client, version, "barred", "a test")
    assert found(project) == {}


def test_rows_have_the_same_seal_in_both_databases(project, postgresql, monkeypatch):
    def sealed() -> dict[str, seals.Seal]:
        tables = ("log/predictions", "log/ground_truth", "log/inputs")
        every = seals.read(project).below("log/")
        return {name: seal for name, seal in every.items() if name.startswith(tables)}

    before = sealed()
    monkeypatch.setenv(prediction_log.ADDRESS, postgresql)
    log = prediction_log.connect(project, read_contract(project.contract))
    with log.database.transaction() as cursor:  # sorts as a server set up for people does
        cursor.execute('ALTER TABLE predictions ALTER COLUMN id TYPE TEXT COLLATE "en-x-icu"')
    log.close()
    kept.answers(project, range(kept.ANSWERS))
    seals.put(project, {}, gone=seals.read(project).below("log/"), why="another log")
    kept.seal_log(project)
    assert sealed() == before
    log = prediction_log.connect(project, read_contract(project.contract))
    with log.database.transaction() as cursor:
        cursor.execute("UPDATE predictions SET answer = 1 WHERE id = %s", (f"{7:032x}",))
    assert [one.what for one in kept_rows.check(log, seals.read(project))[0]] == [CHANGED]
    log.close()


def test_stores_are_sealed_too(project):
    aside = project.var / "quarantine.db"
    change(aside, "UPDATE decisions SET state = 'released' WHERE seq = 1")
    change(aside, "UPDATE set_aside SET content = '{}' WHERE id = 'r1'")
    points = f'UPDATE "{kept.NAME}_points" SET valid_from = 1 WHERE rowid = (SELECT min(rowid) FROM "{kept.NAME}_points")'
    change(project.var / "features.db", points)
    named = {f"feature store of {kept.NAME}", "quarantine/decisions/1", "quarantine/set_aside/r1"}
    assert found(project).keys() == named


def test_a_state_that_other_ground_truth_would_make_is_counted_and_one_that_was_bent_is_found(
    project,
):

    contract = read_contract(project.contract)
    rule = calibration.rule_of_knobs(contract, read_knobs(project.knobs))
    calibration.made(project, contract, rule, kept.START + timedelta(days=1))
    assert verification.verify(project).looked_at["calibration states, made again"] == 1
    bend = "UPDATE calibration_states SET state = replace(state, '\"at_bound\":false', '\"at_bound\":true') WHERE version = '1' AND as_of_us = ?"
    change(project.var / "predictions.db", bend, 1425340800000000)
    assert [w for w in found(project) if w.startswith("calibration state of house-prices v1 as of")]


def test_a_line_of_the_ledger_that_was_changed_or_cut_off_is_found(project):
    ledger = seals.file_of(project)
    lines = ledger.read_bytes().splitlines(keepends=True)
    flip(ledger, len(b"".join(lines[:4])) + 90)
    assert found(project) == {"var/seals.log, line 5": CHANGED}
    ledger.write_bytes(b"".join(lines[:-3]))
    assert found(project)["var/seals.log"] == CHANGED
    ledger.unlink()
    assert found(project) == {"var/seals.log": MISSING}


def test_every_byte_of_the_ledger_counts(tmp_path):
    project = Project(tmp_path)
    for n in range(4):
        seals.put(project, {f"var/{n}": seals.Seal.of_bytes(b"x")})
    content = seals.file_of(project).read_bytes()
    for place in range(len(content)):
        seals.file_of(project).write_bytes(content)
        flip(seals.file_of(project), place)
        assert seals.read(project).broken, place


def test_half_a_line_that_a_kill_left_is_no_change(tmp_path):
    project = Project(tmp_path)
    seals.put(project, {"var/a": seals.Seal.of_bytes(b"x")})
    with seals.file_of(project).open("ab") as opened:
        opened.write(b"0123 {half")
    seals.put(project, {"var/b": seals.Seal.of_bytes(b"x")})
    ledger = seals.read(project)
    assert (ledger.broken, set(ledger.seals)) == ((), {"var/a", "var/b"})


def test_a_person_accepts_what_was_changed_with_a_reason_and_seals_what_never_was(project):
    turn = project.var / "loop/turns/000001.json"
    turn.write_text("{}")
    shutil.copy(turn, turn.with_name("000002.json"))
    assert "not sealed: 1 turn." in verification.verify(project).notes[0]
    name = "var/loop/turns/000001.json"
    words = ["--accept", name, "--reason", "a test", "--seal", "--json"]
    code, told = typed("verify", *words)
    assert (code, json.loads(told)["notes"]) == (0, [])
    assert "accepted by" in seals.file_of(project).read_text()
    with pytest.raises(VerificationError, match="no sealed file has that name"):
        verification.accept(project, ["var/none"], "a test", "somebody")


def test_the_command_says_what_was_found_where_and_what_to_do(project):
    flip(next(project.snapshots.glob("*.parquet")))
    code, printed = typed("verify", "--quick")
    told = " ".join(printed.split())
    assert code == 3
    assert "changed var/snapshots/" in told
    assert "Bring it back: loopbook snapshots restore" in told


def test_the_rows_of_a_version_that_are_gone_are_missing_and_its_answers_may_be_unreproducible(
    project,
):
    client = tracking.connect(project)
    version = tracking.holder(client, kept.NAME, tracking.CHAMPION)
    tracking.set_version_tag(client, version, "snapshot_sha256", "f" * 64)
    card = next(path for name, path in files(project).items() if name.endswith("card.json"))
    flip(card)
    told = found(project)
    assert told[f"{version.label}, snapshot"] == MISSING
    assert told[version.label] == UNREPRODUCIBLE


def test_a_project_without_a_log_and_without_a_decision_about_its_champion_has_no_finding(
    line, tmp_path
):
    with inside(copied(line, tmp_path / "house")) as project:
        assert champions.reigns(tracking.connect(project), kept.NAME) == []
        assert found(project) == {}


def test_a_turn_verifies_whole_when_it_is_due_and_tells_of_what_is_new_once(project, monkeypatch):
    heard, contract, knobs = [], read_contract(project.contract), read_knobs(project.knobs)
    monkeypatch.setattr(upkeep.notifications, "send", lambda text, record: heard.append(text))
    monkeypatch.setattr(kept_rows, "SETTLED", timedelta(0))
    flip(next(project.snapshots.glob("*.parquet")))
    forms = []
    for number, day in ((2, 0), (3, 1), (4, 8)):
        at = (kept.START + timedelta(days=day)).isoformat()
        record = kept.TURN | {"turn": number, "began_at": at, "reason": "it is"}
        record["verified"] = upkeep.look(project, contract, knobs, record)
        turns.keep(project, record)
        forms.append((record["verified"]["form"], record["verified"]["count"]))
    assert forms == [("whole", 1), ("quick", 1), ("whole", 1)]
    (text,) = heard
    assert "1 of all that is kept are not as they were written, such as var/snapshots/" in text
