"""Who serves, who served, and why: the ledger, by hand, back, and after a kill."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
from made_once import copied
from small_house import give, loopbook

from loopbook.cli import main
from loopbook.project import paths
from loopbook.project.errors import TrackingError
from loopbook.records.roles import SHADOW
from loopbook.registry import champions, reigns, tracking
from loopbook.registry.reader import BARRED

pytestmark = pytest.mark.slow  # versions are made by training them

NAME = "house-prices"
NOW = datetime(2015, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def house(line, tmp_path_factory):
    folder = copied(line, tmp_path_factory.mktemp("champions") / "house")
    give(folder, 2, tracking.CHALLENGER, "ridge")
    return folder


@pytest.fixture
def client(house, monkeypatch):
    monkeypatch.chdir(house)
    for name, value in paths.Project(house).environment().items():
        monkeypatch.setenv(name, value)
    client = tracking.connect(paths.Project(house))
    _reset(client)
    return client


def _reset(client) -> None:
    """Version 1 serves, version 2 never did, and nobody has written anything down."""
    first, second = reversed(tracking.versions(client, NAME))
    for key in tracking.model_tags(client, NAME):
        client.delete_registered_model_tag(NAME, key)
    for version in (first, second):
        for key in [*version.tags]:
            if key.startswith(("promoted", "previous", BARRED)):
                tracking.unset_version_tag(client, version, key)
    tracking.set_alias(client, first, tracking.CHAMPION)
    tracking.drop_alias(client, NAME, tracking.PREVIOUS)
    tracking.drop_alias(client, NAME, SHADOW)


def holds(client, alias: str) -> str | None:
    found = tracking.holder(client, NAME, alias)
    return found and found.number


def second(client, at: datetime = NOW):
    words = {"reason": "it is better", "at": at, "as_of": None}
    return champions.promote_by_hand(client, NAME, "2", **words)


def test_a_champion_by_hand_has_its_predecessor_as_shadow_and_an_entry(client):
    second(client)
    assert [holds(client, a) for a in (tracking.CHAMPION, SHADOW)] == ["2", "1"]
    ledger = champions.reigns(client, NAME)
    assert [r.version for r in ledger] == ["1", "2"]
    assert (ledger[-1].kind, ledger[-1].reason) == (champions.HAND, "it is better")
    assert reigns.at(ledger, NOW).version == "2"


def test_a_rollback_bars_the_version_and_only_a_person_lifts_it(client):
    second(client)
    champions.roll_back(client, NAME, reason="worse", at=NOW + timedelta(days=7), as_of=None)
    assert [holds(client, a) for a in (tracking.CHAMPION, SHADOW)] == ["1", None]
    ledger = champions.reigns(client, NAME)
    assert [(r.version, r.kind) for r in ledger][1:] == [("2", "by hand"), ("1", "rollback")]
    assert reigns.at(ledger, NOW + timedelta(days=3)).version == "2"
    digest = tracking.versions(client, NAME)[0].tags["onnx_sha256"]
    assert "rolled back: worse" in champions.barred(client, NAME, digest)
    with pytest.raises(TrackingError, match="no version served before"):
        champions.roll_back(client, NAME, reason="again", at=NOW, as_of=None)
    second(client, NOW + timedelta(days=9))
    assert champions.barred(client, NAME, digest) is None


def test_a_kill_between_alias_and_entry_loses_no_entry(client, monkeypatch):
    champions.reconciled(client, NAME, now=NOW)
    real = tracking.make_champion

    def killed(*words):
        real(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "make_champion", killed)
    with pytest.raises(KeyboardInterrupt):
        second(client)
    assert holds(client, tracking.CHAMPION) == "2"
    assert len(champions.reigns(client, NAME)) == 1
    ledger = champions.reconciled(client, NAME, now=NOW + timedelta(days=1))
    assert (ledger[-1].version, ledger[-1].reason) == ("2", "it is better")
    assert ledger[-1].at == NOW.isoformat()


def test_a_move_outside_loopbook_is_seen_and_said_to_be_one(client):
    champions.reconciled(client, NAME, now=NOW)
    version = tracking.versions(client, NAME)[0]
    tracking.set_alias(client, version, tracking.CHAMPION)
    assert champions.reconciled(client, NAME, now=NOW)[-1].kind == champions.SEEN


def test_the_commands_say_who_serves_and_refuse_what_cannot_be(client, house):
    wrong = loopbook(house, "promote", "7", "--reason", "x")
    assert wrong.returncode == 1
    assert "it has no version '7'; there are v2, v1." in wrong.stderr
    assert loopbook(house, "promote", "1", "--reason", "x").returncode == 1
    done = loopbook(house, "promote", "2", "--reason", "a try", "--as-of", "2015-03-01")
    assert done.returncode == 0, done.stderr
    back = loopbook(house, "rollback", "--reason", "no good", "--as-of", "2015-03-09")
    assert f"{NAME} v1 serves again" in back.stdout
    then = loopbook(house, "champion", "--at", "2015-03-03")
    assert f"{NAME} v2" in then.stdout
    assert "a try" in then.stdout
    assert "no good" in loopbook(house, "champion").stdout


@pytest.mark.parametrize("words", [["promote", "1"], ["rollback"]])
def test_a_reason_says_something(words, monkeypatch, capsys):
    """`--reason ""` moved the champion, and nobody could say why."""
    monkeypatch.setattr(sys, "argv", ["loopbook", *words, "--reason", " "])
    with pytest.raises(SystemExit):
        main.main()
    assert "--reason: say why, so that it stays known" in capsys.readouterr().err
