"""Commands of the loop: its turns and its replays.

It decides words and exit codes, as `cli` does for the rest.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from loopbook.cli import completion
from loopbook.cli.printed import Json, only_json, report
from loopbook.project import paths, waits
from loopbook.project.counts import counted
from loopbook.project.terminal import say

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KNOB=VALUE",
        autocompletion=completion.knobs,
        help="Set a knob of env.yaml for this run; may be repeated.",
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Compute on a Dask scheduler: tcp://…; local starts two workers here.",
    ),
]


def changes_of(pairs: list[str] | None) -> dict[str, str]:
    """Knobs as they were typed."""
    from loopbook.project.errors import KnobError

    pairs = pairs or []
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise KnobError(f"--set {wrong[0]}: expected KNOB=VALUE, such as as_of=2025-01-01.")
    return dict(pair.split("=", 1) for pair in pairs)


TurnDay = Annotated[
    str,
    typer.Option(
        "--as-of", metavar="DAY", help="Day or instant in UTC of the one turn; without it: now."
    ),
]
Minutes = Annotated[
    float,
    typer.Option(
        metavar="MINUTES",
        help="Minutes between two turns; without it: loop_interval_minutes of env.yaml.",
        show_default=False,
    ),
]


def loop(
    once: Annotated[
        bool, typer.Option("--once", help="Do one turn; the exit code is its outcome.")
    ] = False,
    as_of: TurnDay = "",
    interval: Minutes = 0,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Monitor, retrain when it pays, gate and promote, in turns.

    A turn materializes the features, monitors, decides, retrains, gates,
    promotes and confirms. Exit code of one turn: 0 nothing to do, 10 promoted,
    20 refused, 30 investigate, 40 rolled back, 1 error.
    """
    with waits.waiting("loop"):  # the import takes seconds
        from loopbook.loop import turn as loops
    from loopbook.project.errors import KnobError
    from loopbook.project.knobs import read_knobs, read_moment
    from loopbook.records.turns import EXIT_CODES

    here, knobs = paths.current(), changes_of(changes)
    if as_of and not once:
        raise KnobError("--as-of is for one turn: loopbook loop --once --as-of DAY")
    if as_json and not once:
        raise KnobError("--json is for one turn: loopbook loop --once --json")
    if once:
        moment = read_moment(as_of, "--as-of") if as_of else None
        with only_json(as_json), _leaving_a_turn(here):
            record = loops.turn(here, as_of=moment, changes=knobs)
        report(record, lambda: ["", *_summary(record)], as_json=as_json)
        raise typer.Exit(EXIT_CODES[record["outcome"]])
    minutes = interval or read_knobs(here.knobs, knobs).loop_interval_minutes
    say(
        f"A turn every {counted(minutes, 'minute')}, and when somebody asks for one. Ctrl-C ends it."
    )
    with _leaving_a_turn(here):
        loops.run(
            here,
            interval_s=minutes * 60,
            changes=knobs,
            told=lambda record: say("", *_summary(record)),
        )


@contextmanager
def _leaving_a_turn(here: paths.Project) -> Iterator[None]:
    """If Ctrl-C ends the block, say where the turn stands, also where a build said what it leaves."""
    from loopbook.records import turns

    try:
        yield
    except KeyboardInterrupt:
        left = turns.open_turn(here)
        sentence = (
            f"Turn {left['turn']} stopped at {left['stage']}, and the next one goes on there: "
            "loopbook loop"
            if left
            else "The loop ended between two turns. Start it again: loopbook loop"
        )
        say("", sentence, stream=sys.stderr)
        raise waits.Interrupted from None


def _summary(record: Mapping[str, Any]) -> list[str]:
    """A turn for people, and what to do next."""
    from loopbook.loop import upkeep
    from loopbook.records.turns import ERROR, INVESTIGATE, PROMOTED, ROLLED_BACK

    lines = [f"turn        as of {record['as_of'][:16].replace('T', ' ')} UTC"]
    if record.get("verdict"):
        lines.append(f"verdict     {record['verdict']}: {record['verdict_reasons'][0]}")
    if record.get("verified", {}).get("count"):
        lines.append(f"verified    {upkeep.sentence(record['verified'])}")
    lines += [
        f"{name:<11} {record[name]}" for name in ("probation", "confirmed") if record.get(name)
    ]
    lines.append(f"outcome     {record['outcome']}: {record['reason']}")
    following = {
        ERROR: "put it right; the next turn goes on where this one stopped",
        INVESTIGATE: "make reports",
        PROMOTED: "loopbook champion",
        ROLLED_BACK: "loopbook champion",
    }
    return [*lines, f"next        {following.get(record['outcome'], 'loopbook history')}"]


ScenarioName = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO",
        autocompletion=completion.scenarios,
        help="Disturb the rows: concept, covariate, broken-unit, late-labels, bad-candidate, "
        "bad-champion or storm. Without it the rows stay as they were, and four controls run "
        "beside the loop.",
    ),
]
Step = Annotated[str, typer.Option(metavar="STEP", help="Time between two turns: week or month.")]
Start = Annotated[
    str,
    typer.Option(
        metavar="DAY",
        help="Train the first version as of this day; else the start of the month in which two "
        "fifths of the table's span are over.",
    ),
]
Until = Annotated[
    str, typer.Option(metavar="DAY", help="End before this day; else at the end of the table.")
]
CandidateNames = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Train only these, separated by commas; else all of pipeline.yaml, or two "
        "fast ones with --step month.",
    ),
]
Afresh = Annotated[
    bool, typer.Option("--afresh", help="Delete what an earlier run of this replay did.")
]

OnServers = Annotated[
    bool,
    typer.Option(
        "--servers",
        help="Keep registry, log, keys and features in databases of the replay's own on the "
        "servers that the environment names; else below var/replay.",
    ),
]


def replay(  # noqa: PLR0913 - the options of a command
    scenario: ScenarioName = "",
    step: Step = "week",
    start: Start = "",
    until: Until = "",
    candidates: CandidateNames = "",
    *,
    afresh: Afresh = False,
    on_servers: OnServers = False,
    as_json: Json = False,
) -> None:
    """Send past rows through the service and let the loop turn.

    An interrupted replay goes on when the same command is typed again.
    """
    from loopbook.project.knobs import read_instant

    with waits.waiting("replay"):  # the import takes seconds
        from loopbook.loop import replay as replay_module
    options = replay_module.Options(
        scenario=scenario or None,
        step=step,
        start=read_instant(start, "--start") if start else None,
        until=read_instant(until, "--until") if until else None,
        candidates=[name.strip() for name in candidates.split(",") if name.strip()],
        on_servers=on_servers,
    )
    leaving = waits.leaving("what is done stays. Type the same command again to go on.")
    with only_json(as_json), leaving, waits.waiting("replay"):
        result, lines = replay_module.run(paths.current(), options, afresh=afresh)
    report(result, lambda: ["", *lines], as_json=as_json)


From = Annotated[
    str,
    typer.Option("--from", metavar="DAY", help="Turns and promotions as of this day or later."),
]
To = Annotated[
    str, typer.Option("--to", metavar="DAY", help="Turns and promotions as of before this day.")
]


def history(since: From = "", to: To = "", as_json: Json = False) -> None:
    """Print every turn: verdict, outcome, champion, reason.

    Both clocks are told: as of which moment of the data, and when it was done.
    With --from or --to, those whose moment of the data is in [FROM, TO), and
    the promotions in it that no turn made. Where env.yaml says what a
    retraining costs: what each one paid.
    """
    from loopbook.project.knobs import read_instant

    ends = [
        read_instant(text, option) if text else None
        for text, option in ((since, "--from"), (to, "--to"))
    ]
    with waits.waiting("history"):  # its imports take seconds
        from loopbook.cli import history as happened

        told = happened.record(paths.current(), *ends)
    for_people = {"paid", "has_turned"}
    record = {key: value for key, value in told.items() if key not in for_people}
    report(record, lambda: happened.lines(told), as_json=as_json)


COMMANDS = {  # each with what its help says last
    loop: "Next: loopbook history, or the page of the loop: make reports",
    replay: "Next: make reports, then open the page of the loop.",
    history: "What the loop waits for: loopbook status",
}
