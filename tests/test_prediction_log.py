"""The prediction log on both kinds of database: nothing lost, nothing twice, nothing personal."""

import hashlib
import re
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import small_classes
from conftest import PostgreSQL
from hypothesis import given
from hypothesis import strategies as st
from small_house import ROOT

from loopbook.cli import log_files
from loopbook.data import log_pruning, prediction_log, salt, truths
from loopbook.data.log_tables import COLUMNS
from loopbook.data.prediction_log import Entry
from loopbook.data.row_keys import RowKeys
from loopbook.data.truths import Truth
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import PredictionLogError
from loopbook.project.paths import Project
from loopbook.serving import api_keys

TABLE = read_contract(ROOT / "contract.yaml")
HOUR = 3_600_000_000
START = datetime(2025, 1, 1, tzinfo=UTC)
FIRST = round(START.timestamp() * 1e6)


def contract(**sensitive):
    features = {
        n: f.model_copy(update={"sensitive": sensitive.get(n, "no")})
        for n, f in TABLE.features.items()
    }
    return TABLE.model_copy(update={"features": features})


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path, monkeypatch):
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path / 'log.db'}"
    else:
        found = request.getfixturevalue("postgresql")
    monkeypatch.setenv(prediction_log.ADDRESS, found)
    return found


@pytest.fixture
def log(address, tmp_path):
    opened = prediction_log.connect(Project(tmp_path), contract())
    opened.know_inputs("layout", ["size", "rooms"])
    yield opened
    opened.close()


def entry(number: int, **changes) -> Entry:
    usual = {
        "id": f"id-{number:06d}",
        "received_us": FIRST + number * HOUR,
        "as_of_us": FIRST + number * HOUR,
        "model": "houses",
        "version": "1",
        "role": "champion",
        "shadow_of": None,
        "route": "predict",
        "key": f"house-{number}|2025-01-01",
        "request": {"size": 1800, "rooms": 3},
        "features": np.array([1800, np.nan], np.float32),
        "inputs": "layout",
        "notes": {"imputed": ["rooms"], "unknown": [], "out_of_range": []},
        "answer": 500_000.0 + number,
        "latency_us": 900,
    }
    return Entry(**usual | changes)


def everything(log, **window) -> pl.DataFrame:
    return pl.concat(log.rows(**window), how="diagonal")


@pytest.mark.medium
def test_what_was_answered_comes_back_whole_in_its_window(log, monkeypatch):
    """Several pages, half-open windows, features by name, missing ones null."""
    monkeypatch.setattr(prediction_log, "EXPORT_ROWS", 3)
    log.append([entry(n) for n in range(10)])
    found = everything(log)
    assert found["id"].to_list() == [f"id-{n:06d}" for n in range(10)]
    row = found.row(0, named=True)
    assert (row["feature_size"], row["feature_rooms"]) == (1800.0, None)
    assert row["imputed"] == ["rooms"]
    assert row["answer"] == 500_000.0
    assert row["as_of_ts"] == START
    middle = everything(log, since=START.replace(hour=2), until=START.replace(hour=5))
    assert middle["id"].to_list() == ["id-000002", "id-000003", "id-000004"]
    assert list(log.rows(since=START.replace(day=9))) == []


def test_an_id_is_written_once_and_a_batch_is_written_whole_or_not_at_all(log):
    log.append([entry(1)])
    with pytest.raises(PredictionLogError):
        log.append([entry(2), entry(1)])
    assert everything(log)["id"].to_list() == ["id-000001"]


def test_the_newest_known_truth_counts_by_id_and_by_key_and_corrections_are_kept(log):
    log.append([entry(1), entry(2)])

    def tell(observed, known, **whose):
        truth = Truth(whose.get("id"), whose.get("key"), observed, known, known)
        return log.tell([truth])

    assert tell(1.0, FIRST + 10, id="id-000001") == ["accepted"]
    assert tell(1.0, FIRST + 20, id="id-000001") == ["unchanged"]
    assert tell(2.0, FIRST + 30, key="house-1|2025-01-01") == ["accepted"]
    assert tell(3.0, FIRST + 40, key="house-1|2025-01-01") == ["corrected"]
    assert tell(9.0, FIRST + 40, id="nobody") == ["unknown"]
    first, second = everything(log).iter_rows(named=True)
    assert (first["observed"], first["corrections"]) == (3.0, 2)
    assert (second["observed"], second["corrections"]) == (None, 0)


def test_truths_told_together_count_in_their_order_as_if_told_one_by_one(log):
    log.append([entry(1), entry(2)])

    def one(observed, known, number=1):
        return Truth(f"id-{number:06d}", None, observed, FIRST + known * HOUR, FIRST + 9 * HOUR)

    told = log.told(
        [one(1.0, 5), one(2.0, 6), one(2.0, 7), one(3.0, 4), one(2.0, 8), one(4.0, 5, 2)]
    )
    assert [word for word, _ in told] == [
        *("accepted", "corrected", "unchanged", "corrected", "unchanged", "accepted"),
    ]
    assert [(known - FIRST) // HOUR for _, known in told] == [5, 6, 6, 4, 6, 5]
    assert everything(log)["observed"].to_list() == [2.0, 4.0]


def test_many_truths_are_looked_up_together(tmp_path):
    """Others wait for the log meanwhile."""
    log = prediction_log.at(f"sqlite:///{tmp_path / 'log.db'}", contract(), tmp_path)
    log.append([entry(n) for n in range(2_000)])
    asked = []
    log.database.connection.set_trace_callback(asked.append)
    told = log.tell([Truth(f"id-{n:06d}", None, 1.0, FIRST, FIRST) for n in range(3_000)])
    assert (told.count("accepted"), told.count("unknown")) == (2_000, 1_000)
    assert sum(statement.startswith("SELECT") for statement in asked) < 20


def test_pruning_takes_old_answers_with_their_truth_and_no_others(log, monkeypatch):
    """In several steps, between which others may write."""
    monkeypatch.setattr(log_pruning, "PRUNED_ROWS", 1)
    log.append([entry(n) for n in range(4)])
    for n in range(4):
        log.tell([Truth(f"id-{n:06d}", None, 1.0, FIRST + 50 * HOUR, FIRST + 50 * HOUR)])
    assert log.prune(START.replace(hour=2)) == 2
    left = everything(log)
    assert left["id"].to_list() == ["id-000002", "id-000003"]
    assert left["observed"].to_list() == [1.0, 1.0]


def test_pruning_keeps_the_truth_of_a_key_until_no_answer_of_that_key_is_left(log):
    """A row that was asked for again has its truth still, told after the first answer."""
    key = "house-0|2025-01-01"
    log.append([entry(0), entry(1), entry(5, key=key)])
    for number in range(2):
        told = FIRST + (number + 2) * HOUR
        log.tell([Truth(None, f"house-{number}|2025-01-01", 1.0, told, told)])
    assert log.prune(START.replace(hour=3)) == 2
    assert everything(log).select("id", "observed").rows() == [("id-000005", 1.0)]
    assert log.database.read("SELECT key FROM ground_truth") == [(key,)]
    assert log.prune(START.replace(hour=6)) == 1
    assert log.database.read("SELECT key FROM ground_truth") == []


def test_what_is_exported_until_a_day_is_what_pruning_before_that_day_deletes(log, tmp_path):
    """By when it was received, whatever the moment that was asked for; half-open."""
    shutil.copy(ROOT / "contract.yaml", tmp_path)
    log.append([entry(n, as_of_us=FIRST - n * HOUR) for n in range(72)])
    day, file = "2025-01-02", tmp_path / "log.parquet"
    log_files.export(Project(tmp_path), str(file), since=day, until="2025-01-03")
    assert pl.read_parquet(file)["id"].to_list() == [f"id-{n:06d}" for n in range(24, 48)]
    log_files.export(Project(tmp_path), str(file), since="", until=day)
    copied = set(pl.read_parquet(file)["id"])
    log_files.prune(Project(tmp_path), day)
    assert copied == {f"id-{n:06d}" for n in range(72)} - set(everything(log)["id"])


def test_an_export_has_the_inputs_of_all_versions_in_every_part(log, tmp_path, monkeypatch):
    shutil.copy(ROOT / "contract.yaml", tmp_path)
    monkeypatch.setattr(prediction_log, "EXPORT_ROWS", 2)
    log.know_inputs("later", ["size", "lat"])
    log.append([entry(n, inputs="layout" if n < 3 else "later") for n in range(5)])
    log_files.export(Project(tmp_path), str(tmp_path / "log.parquet"), since="", until="")
    table = pl.read_parquet(tmp_path / "log.parquet")
    assert table["feature_size"].to_list() == [1800.0] * 5
    assert [name for name in table.columns if name.startswith("feature_")] == [
        *("feature_size", "feature_rooms", "feature_lat"),
    ]


def test_sensitive_values_are_hashed_or_left_out_by_name_and_by_alias(address, tmp_path):
    hiding = contract(sqft_living="hash", bedrooms="omit", zipcode="hash")
    opened = prediction_log.connect(Project(tmp_path), hiding)
    opened.know_inputs("layout", ["size", "rooms"])
    request = {"size": 1234567, "rooms": 7, "neighbourhood": "98115", "grade": 7}
    moment = time.time_ns() // 1000
    opened.append([entry(0, id=f"secret-{moment}", as_of_us=moment, request=request)])
    since = datetime.fromtimestamp(moment / 1e6 - 1, UTC)
    text = everything(opened, since=since)["request"][0]
    opened.close()
    assert "1234567" not in text
    assert "98115" not in text
    assert "rooms" not in text
    assert '"grade":7' in text


def keys_of(folder, *names, **sensitive) -> RowKeys:
    return RowKeys(contract(**sensitive).model_copy(update={"key": list(names)}), folder)


PARTS = st.tuples(*[st.text(alphabet="a|\\1", max_size=4)] * 2)


@given(PARTS, PARTS)
def test_two_keys_that_differ_never_have_one_text(one, other):
    """`a|b`, `c` and `a`, `b|c` did."""
    names = ("id", "date")
    texts = [keys_of(None, *names).text(dict(zip(names, key, strict=True))) for key in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)


def test_a_key_that_needs_no_escape_has_the_text_that_it_always_had(tmp_path):
    assert keys_of(tmp_path, "id", "date").text({"id": 17, "date": "2015-03-01"}) == "17|2015-03-01"
    assert keys_of(tmp_path, "id").text({"id": "a|b\\c"}) == "a|b\\c"
    assert keys_of(tmp_path, "id", "date").text({"id": 17}) is None
    assert not (tmp_path / salt.FILE).exists()


def test_a_hash_is_salted_marked_and_the_same_for_the_same_value_in_one_project(tmp_path):
    """Without a salt, whoever reads the log could hash all postcodes and look which one is there."""
    hidden = [keys_of(tmp_path / n, "zipcode", zipcode="hash") for n in ("here", "here", "there")]
    here, again, there = (keys.text({"zipcode": "98115"}) for keys in hidden)
    assert here == again != there
    assert re.fullmatch(r"h1:[0-9a-f]{24}", here)
    assert "98115" not in here
    assert stat.S_IMODE((tmp_path / "here" / salt.FILE).stat().st_mode) == 0o600


def test_a_team_shares_its_salt_by_a_variable_that_is_no_short_word(tmp_path, monkeypatch):
    monkeypatch.setenv(salt.VARIABLE, "a secret of the team")
    one, other = (keys_of(tmp_path / n, "zipcode", zipcode="hash") for n in "ab")
    assert one.hashed("98115") == other.hashed("98115")
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(salt.VARIABLE, "short")
    with pytest.raises(PredictionLogError, match="found 5 characters, expected 16 or more"):
        keys_of(tmp_path, "zipcode", zipcode="hash")


def test_processes_that_make_the_salt_at_once_have_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(lambda _: salt.read_salt(tmp_path), range(40)))
    assert len(salts) == 1
    assert [path.name for path in tmp_path.iterdir()] == [salt.FILE]


def of_old_form(log):
    """Let a log stand as an older loopbook left it, and open it again."""
    with log.database.transaction() as cursor:
        cursor.execute("DROP TABLE log_form")


def test_a_log_of_the_old_form_is_found_by_the_new_keys_with_its_ground_truth(
    log, address, tmp_path
):
    """Of a text that two keys had, the ground truth goes to both, as it did."""
    sent = [("a|b", "c"), ("a", "b|c"), ("a\\", "c"), ("a", "c")]
    log.append(
        [
            entry(n, key="|".join(key), request=dict(zip(("id", "date"), key, strict=True)))
            for n, key in enumerate(sent)
        ]
    )
    log.tell([Truth(None, text, 5.0, FIRST, FIRST) for text in ("a|b|c", "a\\|c")])
    before = everything(log).sort("id")
    of_old_form(log)
    again = prediction_log.connect(Project(tmp_path), contract())
    after = everything(again).sort("id")
    assert before.drop("key").equals(after.drop("key"))
    assert after["observed"].to_list() == [5.0, 5.0, 5.0, None]
    texts = [again.keys.text({"id": i, "date": d}) for i, d in sent]
    assert after["key"].to_list() == texts
    assert again.tell([Truth(None, texts[0], 6.0, FIRST + 1, FIRST)]) == ["corrected"]
    assert everything(again).sort("id")["observed"].to_list() == [6.0, 5.0, 5.0, None]
    again.close()


KINDS = ["red", "blue, dark", "grün"]


def of_classes(*classes) -> Contract:
    """A contract with a target of these classes."""
    about = small_classes.table(small_classes.SEVERAL).model_dump(mode="json")
    return Contract.model_validate(about | {"target": about["target"] | {"classes": [*classes]}})


def said(number: int, answered: str, *probabilities: float, **changes) -> Entry:
    """An answer of a version that knows the classes of `kinds`."""
    likely = np.array(probabilities)
    return entry(number, answer=likely.max(), answered=answered, probabilities=likely, **changes)


@pytest.fixture
def kinds(log, tmp_path):
    opened = prediction_log.connect(Project(tmp_path), of_classes(*KINDS))
    opened.know_inputs("layout", ["size", "rooms"], KINDS)
    yield opened
    opened.close()


def test_a_class_comes_back_with_all_probabilities_and_its_truth_as_a_text(kinds):
    kinds.append([said(1, "grün", 0.1, 0.2, 0.7), said(2, "red", 1 / 3, 1 / 3, 1 / 3)])
    told = [Truth(f"id-{n:06d}", None, "blue, dark", FIRST + n, FIRST) for n in (1, 1, 2)]
    again = Truth("id-000002", None, "red", FIRST + 9, FIRST)
    outcomes = ["accepted", "unchanged", "accepted", "corrected"]
    assert kinds.tell([*told, again]) == outcomes
    found = everything(kinds)
    assert found.schema["answer"] == pl.Array(pl.Float64, 3)
    assert found["answer"].to_list() == [[0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3]]
    assert found["answered"].to_list() == ["grün", "red"]
    assert found["observed"].to_list() == ["blue, dark", "red"]
    assert found["corrections"].to_list() == [0, 1]
    day = timedelta(days=1)
    sampled, count = kinds.sample(START, START + day, most_rows=1, seed=1)
    assert (count, sampled.schema) == (2, found.schema)


def test_probabilities_follow_the_classes_that_the_contract_has_now(kinds, tmp_path):
    """One was added, one is gone, and the order is another: no name changes its number."""
    kinds.append([said(1, "red", 0.6, 0.3, 0.1)])
    kinds.tell([Truth("id-000001", None, "red", FIRST, FIRST)])
    later = prediction_log.connect(Project(tmp_path), of_classes("grün", "black", "blue, dark"))
    (row,) = everything(later).iter_rows(named=True)
    later.close()
    assert row["answer"] == [0.1, 0.0, 0.3]
    assert (row["answered"], row["observed"]) == ("red", "red")


def test_a_moved_answer_comes_back_with_its_raw_one_its_shift_its_state_and_its_interval(log):
    """An answer behind which no state stood is its own raw one."""
    moved = {"raw": 480_000.0, "shift": np.array([0.0408]), "state_us": FIRST}
    log.append([entry(0), entry(1, **moved, low=400_000.0, high=600_000.0)])
    plain, found = everything(log).iter_rows(named=True)
    names = ("raw", "shift", "state_ts", "low", "high")
    assert [plain[n] for n in names] == [500_000.0, None, None, None, None]
    assert [found[n] for n in names] == [480_000.0, [0.0408], START, 400_000.0, 600_000.0]


def test_moved_probabilities_come_back_with_the_raw_ones_in_the_order_of_today(kinds, tmp_path):
    shift = np.array([0.5, 0.0, -0.5])
    raw = np.array([0.5, 0.3, 0.2])
    moved = {"raw": 0.5, "raw_probabilities": raw, "shift": shift, "state_us": FIRST, "least": 0.15}
    kinds.append([said(1, "red", 0.6, 0.3, 0.1, **moved), said(2, "red", 0.6, 0.3, 0.1)])
    later = prediction_log.connect(Project(tmp_path), of_classes("grün", "red", "blue, dark"))
    found, plain = everything(later).iter_rows(named=True)
    later.close()
    assert (found["answer"], found["raw"]) == ([0.1, 0.6, 0.3], [0.2, 0.5, 0.3])
    assert found["shift"] == shift.tolist()
    assert plain["raw"] == plain["answer"] == [0.1, 0.6, 0.3]
    assert (found["least"], plain["least"]) == (0.15, None)


def test_a_target_that_became_classes_keeps_its_truths_and_leaves_its_numbers_out(log, tmp_path):
    """0 and 1 are the classes 0 and 1, also the way back; a number is no probability."""
    log.append([entry(1), entry(2)])
    log.tell([Truth(f"id-{n:06d}", None, float(n), FIRST, FIRST) for n in (1, 2)])
    numbers = everything(log)
    now = prediction_log.connect(Project(tmp_path), of_classes("0", "1", "2"))
    now.know_inputs("new", ["size", "rooms"], ["0", "1", "2"])
    now.append([said(3, "1", 0.1, 0.8, 0.1, inputs="new")])
    now.tell([Truth("id-000003", None, "1", FIRST, FIRST)])
    assert everything(now)["observed"].to_list() == ["1", "2", "1"]
    assert everything(now)["answer"].to_list() == [None, None, [0.1, 0.8, 0.1]]
    sampled, _ = now.sample(START, START + timedelta(days=1), most_rows=9, seed=1)
    assert sampled["id"].to_list() == ["id-000003"]
    now.close()
    assert everything(log)[:2].equals(numbers)
    assert everything(log).row(2, named=True)["observed"] == 1.0
    assert everything(log)["answer"].to_list()[2] is None


OLD_TABLES = (
    "CREATE TABLE predictions (id TEXT PRIMARY KEY, received_us BIGINT NOT NULL, "
    "as_of_us BIGINT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, role TEXT NOT NULL, "
    "shadow_of TEXT, route TEXT NOT NULL, key TEXT, request {blob} NOT NULL, "
    "features {blob} NOT NULL, inputs TEXT NOT NULL, notes {blob} NOT NULL, "
    "answer DOUBLE PRECISION NOT NULL, latency_us BIGINT NOT NULL)",
    "CREATE TABLE inputs (digest TEXT PRIMARY KEY, names TEXT NOT NULL)",
    "CREATE TABLE ground_truth (seq {serial}, prediction_id TEXT, key TEXT, "
    "observed DOUBLE PRECISION NOT NULL, known_us BIGINT NOT NULL, received_us BIGINT NOT NULL)",
    "CREATE TABLE log_form (form INTEGER NOT NULL)",
    "INSERT INTO log_form VALUES (2)",
)  # as loopbook wrote them before a target could be classes


def test_a_log_from_before_there_were_classes_loses_nothing_and_takes_them(log, tmp_path):
    log.append([entry(1), entry(2)])
    log.tell([Truth("id-000001", None, 7.5, FIRST, FIRST)])
    before = everything(log)
    columns = ", ".join(COLUMNS[: COLUMNS.index("answered")])
    truth = "prediction_id, key, observed, known_us, received_us"
    truths = f"ground_truth ({truth})"  # `seq` is given anew, as the table counts
    with log.database.transaction() as cursor:
        for table in ("predictions", "ground_truth", "inputs"):
            cursor.execute(f"ALTER TABLE {table} RENAME TO today_{table}")
        cursor.execute("DROP TABLE log_form")
        cursor.execute("DROP TABLE classes")
        for statement in OLD_TABLES:
            cursor.execute(log.database.sql(statement))
        for table, names in (("predictions", columns), (truths, truth), ("inputs", "*")):
            today = f"today_{table.split()[0]}"
            cursor.execute(f"INSERT INTO {table} SELECT {names} FROM {today}")
            cursor.execute(f"DROP TABLE {today}")
    again = prediction_log.connect(Project(tmp_path), contract())
    assert everything(again).equals(before)
    again.append([entry(3)])
    again.know_inputs("layout", ["size", "rooms"], KINDS)
    again.append([said(4, "red", 0.6, 0.3, 0.1)])
    assert again.tell([Truth("id-000004", None, "red", FIRST, FIRST)]) == ["accepted"]
    assert again.count() == 4
    again.close()


def test_an_answer_whose_key_was_hashed_without_a_salt_still_gets_its_truth(address, tmp_path):
    hiding = contract(zipcode="hash").model_copy(update={"key": ["zipcode", "date"]})
    log = prediction_log.connect(Project(tmp_path), hiding)
    name, row = f"{time.time_ns()}", {"zipcode": "98115", "date": f"day {time.time_ns()}"}
    older = hashlib.sha256(b"98115").hexdigest()[:16] + "|" + row["date"]
    assert log.keys.older(row) == older
    text = log.keys.text(row)
    log.append([entry(1, id=name, key=older)])
    told = Truth(None, text, 5.0, FIRST, FIRST, older)
    assert log.tell([told]) == ["accepted"]
    log.append([entry(2, id=f"{name}-new", key=text)])
    assert log.tell([told, told]) == ["accepted", "unchanged"]
    count = log.database.sql("SELECT count(*) FROM ground_truth WHERE key IN (?, ?)")
    assert log.database.read(count, (text, older)) == [(2,)]
    log.close()


def test_log_and_keys_are_their_owners_alone_also_the_files_beside_them(tmp_path):
    """Those that another loopbook made readable for all are made private."""
    home = Project(tmp_path)
    log = prediction_log.connect(home, contract())
    log.append([entry(1)])
    keys = api_keys.connect(home)
    files = sorted(home.var.glob("*.db*"))
    assert {
        f"{name}.db{more}" for name in ("keys", "predictions") for more in ("", "-wal", "-shm")
    } <= {file.name for file in files}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
    others = [prediction_log.connect(home, contract()), api_keys.connect(home).database]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    for opened in (log, keys.database, *others):
        opened.close()


def test_several_writers_lose_nothing(log, tmp_path):
    """Threads of one process on one connection, and a second connection beside them."""
    other = prediction_log.connect(Project(tmp_path), contract())

    def write(which, first):
        for n in range(first, first + 50):
            which.append([entry(n)])

    threads = [
        threading.Thread(target=write, args=(which, first))
        for which, first in ((log, 0), (log, 1000), (other, 2000))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert log.count() == 150


def test_a_log_that_is_away_is_told_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv(prediction_log.ADDRESS, "postgresql://me:secret@127.0.0.1:9/x")
    with pytest.raises(PredictionLogError, match=r"postgresql://127.0.0.1:9/x") as caught:
        prediction_log.connect(Project(tmp_path), contract())
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_log_goes_on_when_its_server_was_killed_and_started_again(tmp_path, monkeypatch):
    """What was written is there; what a killed transaction had done is not, and may come again."""
    with PostgreSQL() as server:
        monkeypatch.setenv(prediction_log.ADDRESS, server.address)
        log = prediction_log.connect(Project(tmp_path), contract())
        log.append([entry(1)])
        killed = pytest.raises(PredictionLogError, match="cannot be used")
        with killed, log.database.transaction() as cursor:
            cursor.execute("DELETE FROM predictions")
            server.kill()
        with pytest.raises(PredictionLogError, match="cannot be used"):
            log.count()
        server.start()
        assert log.count() == 1
        log.append([entry(2)])
        server.kill()
        server.start()
        log.append([entry(3)])
        assert log.count() == 3
        log.close()


DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("as_of", "received", "now", "known"),
    [
        (100 * DAY, 100 * DAY + 5, 103 * DAY, 103 * DAY),
        (100 * DAY, 4_000 * DAY, 4_000 * DAY + 600, 107 * DAY),
        (100 * DAY, 4_000 * DAY, 4_020 * DAY, 120 * DAY),
        (9_000 * DAY, 4_000 * DAY, 4_001 * DAY, 9_007 * DAY),
    ],
    ids=["a live answer", "a minute later", "twenty days later", "a planned one"],
)
def test_a_truth_becomes_known_by_the_clock_of_its_answer(as_of, received, now, known):
    """Never earlier than the label delay: what is known is known at no earlier instant."""
    assert truths.when_known(now, as_of, received, delay_us=7 * DAY) == known
