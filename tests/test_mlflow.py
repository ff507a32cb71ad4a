"""MLflow as its users expect it: aliases, descriptions, notes, and links between its pages and ours."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import small_classes
from small_classes import NUMBER

from loopbook.data.snapshots import Snapshot
from loopbook.models.promotion import Check, Decision
from loopbook.models.task import task_of
from loopbook.project.clock import utc_now
from loopbook.project.paths import Project
from loopbook.records.roles import CHALLENGER, CHAMPION
from loopbook.registry import candidate_run, challenge, descriptions, kept_code, notes, tracking
from loopbook.registry.tracking import NOTE

pytestmark = [
    pytest.mark.slow,  # models are logged as a build logs them
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),  # MLflow's own
]

ABOUT = small_classes.table(NUMBER)
NAME, TASK = ABOUT.name, task_of(ABOUT)
SNAPSHOT = Snapshot("0" * 64, "/none", 600, 1, None, None, None, "2025-02-01", "")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A registry with a build of two candidates that was promoted, and one that was refused."""
    project = Project(tmp_path_factory.mktemp("mlflow") / "house")
    (project.root).mkdir()
    for name, text in (("contract.yaml", small_classes.as_yaml(ABOUT)), ("pipeline.yaml", "")):
        (project.root / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(project.root):
        patch.setenv("MLFLOW_TRACKING_URI", project.environment()["MLFLOW_TRACKING_URI"])
        client = tracking.connect(project)
        client.promoted = carried_out(client, project, promoted=True, losses=(0.1, 0.2))
        client.refused = carried_out(client, project, promoted=False, losses=(0.3, 0.4), seed=2)
        yield client


def logged(client, seed: int) -> dict[str, str]:
    model, graph, card = small_classes.version(NUMBER, seed)
    run = candidate_run.CandidateRun("linear", model, graph, card, {}, {}, {}, {})
    return tracking.log_candidate(client, tracking.experiment_id(client, NAME), run, SNAPSHOT)


def carried_out(
    client,
    project: Project,
    *,
    promoted: bool,
    losses: tuple,
    seed: int = 1,
    more: dict | None = None,
) -> dict:
    """A build whose best candidate the gate has judged."""
    runs = [logged(client, seed), logged(client, seed)]
    held = tracking.holder(client, NAME, CHAMPION)
    for name in ("reference", "residuals"):
        (project.root / name).write_bytes(b"frozen")
    told = {"candidate": "linear", "bias": 0.0, "exportable": True, "latency_ms": 0.1}
    record = (
        dict.fromkeys(challenge.KEPT)
        | {
            "ranked": [
                told | {"loss": loss, "run_id": run["run_id"]}
                for loss, run in zip(losses, runs, strict=True)
            ],
            "challenger": {"candidate": "linear", **runs[0]},
            "champion": held and {"run_id": held.run_id, "label": held.label},
            "same_as_champion": False,
            "scale": {"loss": 1.0, "bias": 1.0},
            "metric": "absolute_error",
            "measure": asdict(TASK.measure),
            "bias_measure": asdict(TASK.bias_measure),
            "errors": {"challenger": {"absolute_error": losses[0]}},
            "rows": 200,
        }
        | (more or {})
    )
    decision = Decision(promoted, [Check("baseline", promoted, "better <than> the baseline")])
    files = project.root / "reference", project.root / "residuals"
    judged = challenge.Judged(record, decision, SNAPSHOT, *files)
    return challenge.carry_out(client, NAME, judged, decided_at=utc_now())


def test_a_version_that_serves_challenges_nobody(client):
    """It held both aliases after a first build, so a search for the challenger found the champion."""
    assert client.get_registered_model(NAME).aliases == {CHAMPION: 1, CHALLENGER: 2}
    tracking.set_alias(client, tracking.version_of(client, NAME, "1"), CHALLENGER)
    tracking.make_champion(client, tracking.version_of(client, NAME, "1"), {})
    assert tracking.holder(client, NAME, CHALLENGER) is None
    again = dict(client.promoted["challenger"], model_uri="models:/none")
    tracking.register(client, NAME, again, {})
    assert tracking.holder(client, NAME, CHALLENGER) is None


def test_each_run_of_a_build_says_its_place_the_decision_and_where_all_are_compared(client):
    first, second = (row["run_id"] for row in client.refused["ranked"])
    best, other = (client.get_run(run).data.tags[NOTE] for run in (first, second))
    assert "place 1 of 2 in its build" in best
    assert "place 2 of 2 in its build" in other
    assert "v2 (linear): Refused: better &lt;than&gt; the baseline" in best
    assert "4_candidates.ipynb?version=2" in other
    assert f"]({client.refused['comparison']})" in other


def test_a_run_is_told_where_it_serves_and_has_its_decision(client, tmp_path):
    """A build that makes the serving model again left "Nothing changed" in place of why it serves."""
    first, second = (told["challenger"]["run_id"] for told in (client.promoted, client.refused))
    serves = {"challenger": {"run_id": first}, "champion": {"run_id": first}}
    assert not kept_code.is_told(client, serves)
    (tmp_path / notes.DECISION).write_text("{}")
    for run_id in (first, second):
        tracking.log_files(client, run_id, [tmp_path / notes.DECISION], notes.DECIDED)
    assert kept_code.is_told(client, serves)
    assert not kept_code.is_told(client, serves | {"challenger": {"run_id": second}})
    assert not kept_code.is_told(client, serves | {"champion": None})


def test_the_comparison_is_the_address_that_mlflows_own_pages_use(client):
    """A fragment, so the same path opens it on a server and on this machine."""
    asked = parse_qs(urlsplit(client.refused["comparison"].removeprefix("#")).query)
    runs = [row["run_id"] for row in client.refused["ranked"]]
    experiment = client.get_experiment_by_name(NAME).experiment_id
    assert json.loads(asked["runs"][0]) == runs
    assert json.loads(asked["experiments"][0]) == [experiment]
    found = client.search_runs(json.loads(asked["experiments"][0]))
    assert {run.info.run_id for run in found} >= set(runs)


@pytest.mark.parametrize(
    ("address", "begins"),
    [
        ("sqlite:///x/mlflow.db", "http://127.0.0.1:5000/#/compare-runs"),
        ("https://ann:secret@tracking.example/base/", "https://tracking.example/base/#/compare-"),
    ],
)
def test_a_page_leads_to_the_tracking_server_or_to_make_mlflow(address, begins):
    assert notes.mlflow_page(address, notes.comparison("1", ["a"])).startswith(begins)


def test_a_run_says_what_it_is_before_its_build_has_compared_it(client):
    run = logged(client, 1)["run_id"]
    note = client.get_run(run).data.tags[NOTE]
    assert note.startswith("**linear**")
    assert f"It predicts {ABOUT.target.name}: {ABOUT.target.meaning}" in note
    assert "Fitted on 600 rows." in note


def test_an_experiment_and_a_model_say_what_they_are(client):
    tags = client.get_experiment_by_name(NAME).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags[NOTE].startswith("Each run is a candidate of a build")
    told = descriptions.tags_of(ABOUT)
    assert (told["task"], told["target"]) == ("regression", ABOUT.target.name)
    assert None not in told.values()


def test_the_description_of_a_version_leads_to_its_readable_decision(client):
    version = tracking.version_of(client, NAME, "2")
    place = tracking.artifacts_page(client, version)
    told = descriptions.of_version(version, None, place)
    assert f"[Why, check by check]({place}/decision/decision.html)" in told
    assert "[dossier]" not in told


def test_a_window_and_a_turn_have_their_sentences_as_notes(client):
    verdict = {"level": "watch", "reasons": ["size has moved", "few truths"]}
    record = {"as_of": "2025-02-01T00:00:00", "verdict": verdict, "numbers": {}, "champion": {}}
    window = client.get_run(tracking.log_window(client, NAME, record, [])).data.tags
    assert window[NOTE] == "**watch**\n\n- size has moved\n- few truths"
    turn = {"as_of": "2025-02-01T00:00:00", "outcome": "promoted", "reason": "it is better"}
    told = client.get_run(tracking.log_turn(client, NAME, turn)).data.tags
    assert told[NOTE] == "**promoted**\n\n- it is better"


def test_a_build_takes_the_second_alias_that_an_earlier_loopbook_left(client):
    project = Project(Path.cwd())
    tracking.set_alias(client, tracking.version_of(client, NAME, "1"), CHALLENGER)
    carried_out(client, project, promoted=False, losses=(0.3, 0.4), seed=2)
    assert tracking.holder(client, NAME, CHALLENGER).number != "1"
    tracking.set_alias(client, tracking.version_of(client, NAME, "1"), CHALLENGER)
    same = {"same_as_champion": True}
    carried_out(client, project, promoted=False, losses=(0.1, 0.2), more=same)
    assert tracking.holder(client, NAME, CHALLENGER) is None
