"""Commands of the loop: its turns, its replays, and who serves by whose decision.

It decides words and exit codes, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.project import paths

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="A knob of env.yaml for this run."),
]


def changes_of(pairs: list[str] | None) -> dict[str, str]:
    """Knobs as they were typed."""
    from loopbook.project.errors import KnobError

    pairs = pairs or []
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise KnobError(f"--set {wrong[0]}: expected KNOB=VALUE, such as as_of=2014-10-01.")
    return dict(pair.split("=", 1) for pair in pairs)


def loop(
    once: Annotated[bool, typer.Option(help="One turn; its outcome is the exit code.")] = False,
    as_of: Annotated[
        str, typer.Option("--as-of", metavar="DAY", help="A day or an instant in UTC; else now.")
    ] = "",
    interval: Annotated[
        float, typer.Option(metavar="MINUTES", help="Between two turns; else env.yaml's.")
    ] = 0,
    changes: Changes = None,
) -> None:
    """Turn after turn: materialize, monitor, decide, retrain, gate, promote, confirm.

    One turn ends with 0 (nothing to do), 10 (promoted), 20 (refused), 30
    (investigate), 40 (rolled back) or 1 (error).
    """
    from loopbook.loop import turn as loops
    from loopbook.project.errors import KnobError
    from loopbook.project.knobs import read_knobs, read_moment
    from loopbook.records.turns import EXIT_CODES

    here, told = paths.current(), changes_of(changes)
    if as_of and not once:
        raise KnobError("--as-of is for one turn: loopbook loop --once --as-of DAY")
    if once:
        moment = read_moment(as_of, "--as-of") if as_of else None
        record = loops.turn(here, as_of=moment, changes=told)
        print("\n".join(["", *loops.summary(record)]))
        raise typer.Exit(EXIT_CODES[record["outcome"]])
    minutes = interval or read_knobs(here.knobs, told).loop_interval_minutes
    print(f"A turn every {minutes:g} minutes, and when somebody asks for one. Ctrl-C ends it.")
    loops.run(
        here,
        interval_s=minutes * 60,
        changes=told,
        told=lambda record: print("\n".join(["", *loops.summary(record)]), flush=True),
    )


def replay(
    scenario: Annotated[
        str, typer.Argument(help="A disturbance; none: the year as it was, with two controls.")
    ] = "",
    step: Annotated[str, typer.Option(help="week or month: between two turns.")] = "week",
    start: Annotated[str, typer.Option(metavar="DAY", help="Train as of this day.")] = "2014-10-01",
    until: Annotated[str, typer.Option(metavar="DAY", help="End before this day.")] = "",
    candidates: Annotated[
        str, typer.Option(metavar="NAMES", help="Of these only, with commas; else pipeline.yaml's.")
    ] = "",
    *,
    afresh: Annotated[bool, typer.Option(help="Forget what an earlier one did.")] = False,
) -> None:
    """Send the past through the real service, and let the loop turn; interrupted, it goes on."""
    from loopbook.loop import replay as replay_module
    from loopbook.project.knobs import read_moment

    told = replay_module.run(
        paths.current(),
        scenario=scenario or None,
        step=step,
        start=read_moment(start, "--start"),
        until=read_moment(until, "--until") if until else None,
        candidates=[name.strip() for name in candidates.split(",") if name.strip()],
        afresh=afresh,
    )
    print("\n".join(["", *told]))


def history() -> None:
    """Print every turn of the loop: verdict, outcome, champion, and why."""
    from loopbook.records import turns as turn_records

    print("\n".join(turn_records.lines(turn_records.listed(paths.current()))))


Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
Moment = Annotated[
    str, typer.Option("--as-of", metavar="DAY", help="By the clock of the data; else now.")
]


def _registry():
    """The registry and the model's name."""
    from loopbook.project.contract import read_contract
    from loopbook.registry import tracking

    here = paths.current()
    return tracking.connect(here), read_contract(here.contract).name


def _as_of(text: str) -> str | None:
    from loopbook.project.knobs import read_moment

    moment = read_moment(text, "--as-of") if text else None
    return moment.isoformat() if moment else None


def promote(
    version: Annotated[str, typer.Argument(help="Such as 3.")],
    reason: Reason,
    as_of: Moment = "",
) -> None:
    """Let a registered version serve, by hand; the version before goes on as its shadow."""
    from loopbook.project.clock import utc_now
    from loopbook.registry import champions

    client, name = _registry()
    words = {"reason": reason, "at": utc_now(), "as_of": _as_of(as_of)}
    promoted = champions.promote_by_hand(client, name, version, **words)
    print(f"{promoted.label} is the champion; a running service follows within seconds.")
    print("It is on probation: the loop rolls it back if it does worse than the one before.")
    print("Back by hand: loopbook rollback --reason '…'   Who served when: loopbook champion")


def rollback(reason: Reason, as_of: Moment = "") -> None:
    """Let the version before serve again, and never promote this one by itself again."""
    from loopbook.project.clock import utc_now
    from loopbook.registry import champions

    client, name = _registry()
    words = {"reason": reason, "at": utc_now(), "as_of": _as_of(as_of)}
    barred, back = champions.roll_back(client, name, **words)
    print(
        f"{back.label} serves again; {barred.label} is barred until somebody promotes it by hand."
    )


def champion(
    at: Annotated[
        str, typer.Option("--at", metavar="DAY", help="Who served then; else the whole ledger.")
    ] = "",
) -> None:
    """Say who serves and who served: since when, by whose decision, and why."""
    from loopbook.project.clock import utc_now
    from loopbook.project.knobs import read_moment
    from loopbook.registry import champions

    client, name = _registry()
    ledger = champions.reconciled(client, name, now=utc_now())
    moment = read_moment(at, "--at") if at else None
    found = champions.at(ledger, moment) if moment else None
    if not ledger:
        print("There was no champion yet. Make one: make build")
    elif moment and found is None:
        print(f"Nobody served on {at}; the first was {name} v{ledger[0].version}.")
    print("\n".join(champions.lines([found] if found else [] if moment else ledger, name)))


COMMANDS = (loop, replay, history, promote, rollback, champion)
