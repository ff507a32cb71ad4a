"""Turns of a loop and results of replays as they are written, made up and the same every time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loopbook.project.files import write_json

START = datetime(2014, 10, 1, tzinfo=UTC)
POLICIES = {"never": 0.131, "scheduled": 0.127, "loop": 0.122}
# what happens in which week of the made-up year: (verdict, outcome)
WEEKS = {
    5: ("watch", "nothing"),
    8: ("retrain", "promoted"),
    9: ("watch", "nothing"),
    14: ("retrain", "refused"),
    17: ("investigate", "investigate"),
    21: ("retrain", "promoted"),
    22: ("retrain", "promoted"),
    23: ("watch", "rolled back"),
    27: (None, "error"),
    30: ("retrain", "promoted"),
}


def turn(number: int, verdict: str | None, outcome: str, champion: str, **more: Any) -> dict:
    """The record of a turn, a week after the one before."""
    at = START + timedelta(weeks=number)
    record = {
        "turn": number,
        "as_of": at.isoformat(),
        "began_at": at.isoformat(),
        "ended_at": (at + timedelta(minutes=2)).isoformat(),
        "stage": "decide",
        "outcome": outcome,
        "reason": f"the reason of turn {number}",
        "champion": champion,
        "asked": None,
    }
    if verdict:
        record |= {
            "verdict": verdict,
            "verdict_reasons": [f"it is {verdict}", "a second reason"],
            "numbers": {
                "rows": 412,
                "labels": 380,
                "due": 395,
                "error": 0.1312,
                "skew_share": None,
            },
            "window": f"{at:%Y%m%dT%H%M%SZ}",
        }
    if outcome in ("promoted", "refused"):
        version = str(number)
        record |= {
            "attempt": outcome,
            "challenger": {
                "label": f"house-prices v{version}",
                "version": version,
                "candidate": "ensemble",
                "run_id": "a" * 32,
            },
            "snapshot_sha256": "b" * 64,
            "snapshot_rows": 9876,
            "errors": {"challenger": 0.121, "champion": 0.132, "baseline": 0.31},
            "retrain_s": 61.5,
        }
    return record | more


def turns(count: int = 35) -> list[dict]:
    """A year of weekly turns with promotions side by side, a refusal, a rollback and an error."""
    records, serves = [], 1
    for week in range(1, count + 1):
        verdict, outcome = WEEKS.get(week, ("healthy", "nothing"))
        if outcome == "promoted":
            serves += 1
        elif outcome == "rolled back":
            serves -= 1
        records.append(turn(week, verdict, outcome, f"house-prices v{serves}"))
    return records


def result(scenario: str | None = None, **more: Any) -> dict:
    """The result of a finished replay."""
    policies = ["loop"] if scenario else list(POLICIES)
    months = [
        {
            "policy": policy,
            "month": f"{2014 + (9 + k) // 12}-{(9 + k) % 12 + 1:02d}",
            "rows": 900 + k,
            "error": POLICIES[policy] + 0.004 * (k % 3),
            "bias": -0.01 * (k % 4),
        }
        for policy in policies
        for k in range(8)
    ]
    replay = {
        "scenario": scenario,
        "step": "week",
        "start": START.isoformat(),
        "end": (START + timedelta(weeks=35)).isoformat(),
        "candidates": [],
        "months": months,
        "turns": turns(),
        "retrains": {"loop": 5} | ({} if scenario else {"scheduled": 8}),
        "requests": 14_321,
        "failed": 0,
        "seconds": 4321.5,
    }
    if scenario:
        replay |= {"right": True, "expected": "it retrains and a new version is promoted"}
    return replay | more


def keep_turns(folder: Path, records: list[dict]) -> None:
    for record in records:
        write_json(folder / "var/loop/turns" / f"{record['turn']:06d}.json", record)


def keep_result(folder: Path, replay: dict, svg: bytes | None = None) -> None:
    place = folder / "var/replay" / f"{replay['scenario'] or 'year'}-{replay['step']}"
    write_json(place / "result.json", replay)
    if svg:
        (place / "replay.svg").write_bytes(svg)
