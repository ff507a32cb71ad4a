"""Commands of who serves: promote by hand, roll back, and who served when by whose decision.

It decides words, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.printed import Json, report
from loopbook.project import paths, waits
from loopbook.project.terminal import say

Reason = Annotated[
    str, typer.Option(metavar="WHY", help="Why; it is kept in the ledger of champions.")
]
INTERRUPTED = "see who serves: loopbook champion. If nothing changed, type the same command again."
Moment = Annotated[
    str,
    typer.Option(
        "--as-of", metavar="DAY", help="From which day on by the clock of the data; else now."
    ),
]


def _registry():
    """The registry and the model's name."""
    from loopbook.project.contract import read_contract
    from loopbook.registry import tracking

    here = paths.current()
    return tracking.connect(here), read_contract(here.contract).name


def _calibrated(as_of: str | None) -> None:
    """Make the states of whoever answers now, and say so."""
    from loopbook.project.clock import parse_instant
    from loopbook.project.contract import read_contract
    from loopbook.project.knobs import read_knobs
    from loopbook.registry import calibration

    here = paths.current()
    contract, moment = read_contract(here.contract), parse_instant(as_of) if as_of else None
    rule = calibration.rule_of_knobs(contract, read_knobs(here.knobs))
    waits.at("making the calibration states")
    with waits.leaving(
        "not all calibration states were made. Make them: loopbook features materialize"
    ):
        say(*calibration.told(here, contract, rule, moment))


def _stated(reason: str) -> str:
    from loopbook.project.errors import TrackingError

    if not reason.strip():
        raise TrackingError("--reason: say why, so that it stays known: --reason WHY")
    return reason


def _as_of(text: str) -> str | None:
    from loopbook.project.knobs import read_instant

    return read_instant(text, "--as-of").isoformat() if text else None


def promote(
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            autocompletion=completion.versions,
            help="A registered version, such as 3.",
        ),
    ],
    reason: Reason,
    as_of: Moment = "",
) -> None:
    """Make a registered version the champion, by hand.

    It is on probation: the version before goes on as its shadow, and the loop
    rolls back if the new champion does worse.
    """
    from loopbook.project.clock import utc_now

    entry = {"reason": _stated(reason), "at": utc_now(), "as_of": _as_of(as_of)}
    with waits.leaving(INTERRUPTED), waits.waiting("promote"):  # its imports take seconds
        from loopbook.registry import champions

        client, name = _registry()
        promoted = champions.promote_by_hand(client, name, version, **entry)
        say(
            f"{promoted.label} is the champion; a running service follows within seconds.",
            "It is on probation: the loop rolls it back if it does worse than the one before.",
        )
        _calibrated(entry["as_of"])
    say("Undo: loopbook rollback --reason WHY", "Who served when: loopbook champion")


def rollback(reason: Reason, as_of: Moment = "") -> None:
    """Make the version before the champion the champion again.

    The loop never promotes the version that was rolled back; a person may:
    loopbook promote VERSION --reason WHY
    """
    from loopbook.project.clock import utc_now

    entry = {"reason": _stated(reason), "at": utc_now(), "as_of": _as_of(as_of)}
    with waits.leaving(INTERRUPTED), waits.waiting("rollback"):  # its imports take seconds
        from loopbook.registry import champions

        client, name = _registry()
        barred, back = champions.roll_back(client, name, **entry)
        say(
            f"{back.label} serves again; {barred.label} is barred until somebody promotes it by "
            "hand."
        )
        _calibrated(entry["as_of"])
    say("Who served when: loopbook champion")


def champion(
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="Show only who served then; else all champions."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show who serves and who served: since when, by whom, why.

    With --at: who served then by the clock of the data (as of), and by the clock
    on the wall (done at). They differ in a replay of the past.
    """
    from loopbook.project.clock import utc_now
    from loopbook.project.knobs import read_instant

    moment = read_instant(at, "--at") if at else None
    with waits.waiting("champion"):  # its imports take seconds
        from loopbook.cli import history as happened
        from loopbook.registry import champions, reigns

        client, name = _registry()
        ledger = champions.reconciled(client, name, now=utc_now())
    record: dict = {"model": name, "serves": ledger[-1].version if ledger else None}
    if moment:
        then = reigns.at(ledger, moment), reigns.done_by(ledger, moment)
        by_data, by_wall = (reign and happened.of_reign(reign) for reign in then)
        record |= {"at": moment, "by_data": by_data, "by_wall": by_wall}
    else:
        record["reigns"] = [happened.of_reign(reign) for reign in ledger]

    def lines() -> list[str]:
        if not ledger:
            return ["There was no champion yet. Make one: make build"]
        if moment:
            return happened.served_then(ledger, name, moment)
        return happened.champions(ledger, name)

    report(record, lines, as_json=as_json)


CHAMPIONS = "Next: loopbook champion"
COMMANDS = {  # each with what its help says last
    promote: CHAMPIONS,
    rollback: CHAMPIONS,
    champion: "Change it: loopbook promote VERSION --reason WHY, or loopbook rollback --reason WHY",
}
