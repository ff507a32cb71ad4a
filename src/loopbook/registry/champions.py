"""Champions: who serves, who served, and who decided it, when and why.

It decides what a change of the alias `champion` leaves behind. Each change is
an entry of a ledger in the registry itself (tags of the registered model), so
it is where the versions are. Aliases are moved in an order that a kill cannot
turn into two champions or none; an entry that a kill prevented, or a move that
somebody made in MLflow's own pages, is added when the ledger is next looked at.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from loopbook.project.errors import TrackingError
from loopbook.project.people import who
from loopbook.records.roles import SHADOW
from loopbook.registry import descriptions, tracking
from loopbook.registry.reader import BARRED, no_version
from loopbook.registry.reigns import ENTRY, Reign, of_tags
from loopbook.registry.tracking import CHAMPION, PREVIOUS, Version

GATE, HAND, ROLLBACK, SEEN = "gate", "by hand", "rollback", "outside loopbook"


def reigns(client, name: str) -> list[Reign]:
    """The ledger, oldest entry first."""
    return of_tags(tracking.model_tags(client, name))


def reconciled(client, name: str, *, now: datetime, as_of: str | None = None) -> list[Reign]:
    """The ledger, with an entry for a champion that it does not tell of.

    `now` and `as_of` (None: the same) are when such an entry begins, if the
    version does not say.
    """
    held, ledger = tracking.holder(client, name, CHAMPION), reigns(client, name)
    if held is None or (ledger and ledger[-1].version == held.number):
        return ledger
    promoted = held.tags.get("promoted_at")
    is_ours = promoted is not None and (not ledger or promoted >= ledger[-1].at)
    at = promoted if is_ours else now.isoformat()
    clock = held.tags.get("promoted_as_of", "none") if is_ours else as_of or "none"
    entry = Reign(
        held.number,
        at,
        at if clock == "none" else clock,
        held.tags.get("promoted_kind", GATE) if is_ours else SEEN,
        held.tags.get("promoted_by", "unknown") if is_ours else "unknown",
        held.tags.get("promoted_reason", held.tags.get("gate_reason", "unknown"))
        if is_ours
        else "the alias was moved outside loopbook; seen now",
    )
    _write(client, name, ledger, entry)
    return [*ledger, entry]


@dataclass(frozen=True)
class Change:
    """A change of the champion: by which kind of decision, why, when and by whom.

    Attributes
    ----------
    as_of : str or None
        ISO 8601, by the clock of the data; None: the same as `at`.
    by : str or None
        None: who runs this process.
    """

    kind: str
    reason: str
    at: datetime
    as_of: str | None
    by: str | None = None

    def tags(self) -> dict[str, str]:
        """What a version's tags say of its promotion."""
        return {
            "promoted_at": self.at.isoformat(),
            "promoted_as_of": self.as_of or self.at.isoformat(),
            "promoted_kind": self.kind,
            "promoted_by": self.by or who(),
            "promoted_reason": self.reason[:2000],
        }


def promote(client, version: Version, change: Change) -> Version | None:
    """Let a version serve; the one before goes on as its shadow.

    Returns
    -------
    Version or None
        The version before. Called again for the one that serves, it only
        completes what an earlier call could not.
    """
    name, before = version.name, tracking.holder(client, version.name, CHAMPION)
    reconciled(client, name, now=change.at, as_of=change.as_of)
    if before and before.number == version.number:
        tracking.challenges_nobody(client, before)  # of a kill, or of an earlier loopbook
        return tracking.holder(client, name, PREVIOUS)
    stamps = change.tags()
    if before:
        stamps["previous_champion"] = before.number
        tracking.set_alias(client, before, SHADOW)
    tracking.make_champion(client, version, stamps)
    reconciled(client, name, now=change.at)
    descriptions.write(client, name, [before])
    return before


def promote_by_hand(
    client, name: str, number: str, *, reason: str, at: datetime, as_of: str | None
) -> Version:
    """Let a version serve because a person says so; the loop may roll it back.

    Raises
    ------
    TrackingError
        If there is no such version, it serves already, or its files are not
        what the registry says. Nothing is changed then.
    """
    version = _version(client, name, number)
    held = tracking.holder(client, name, CHAMPION)
    if held and held.number == version.number:
        raise TrackingError(f"{version.label}: it is the champion already; nothing was changed.")
    tracking.load_service_files(client, version)
    tracking.unset_version_tag(client, version, BARRED)
    promote(client, version, Change(HAND, reason, at, as_of))
    return version


def roll_back(
    client, name: str, *, reason: str, at: datetime, as_of: str | None, by: str | None = None
) -> tuple[Version, Version]:
    """Let the version before serve again, and bar the one that served.

    Returns
    -------
    barred, champion : Version

    Raises
    ------
    TrackingError
        If there is no champion, or none before it that is not barred.
    """
    held = tracking.holder(client, name, CHAMPION)
    if held is None:
        raise TrackingError(f"{name}: there is no champion to roll back. Make one: make build")
    ledger = reconciled(client, name, now=at, as_of=as_of)
    known = {version.number: version for version in tracking.versions(client, name)}
    fit = [
        known[r.version]
        for r in ledger
        if r.version != held.number and r.version in known and BARRED not in known[r.version].tags
    ]
    if not fit:
        raise TrackingError(
            f"{held.label}: no version served before it that may serve again. Promote one by "
            "hand: loopbook promote VERSION --reason '…'"
        )
    back = fit[-1]
    tracking.load_service_files(client, back)
    tracking.set_version_tag(client, held, BARRED, reason[:2000])
    stamps = Change(ROLLBACK, reason, at, as_of, by).tags()
    tracking.drop_alias(client, name, SHADOW)
    tracking.make_champion(client, back, stamps)
    reconciled(client, name, now=at)
    descriptions.write(client, name, [held])
    return held, back


def end_probation(client, name: str) -> None:
    """Let the version before answer no more."""
    tracking.drop_alias(client, name, SHADOW)


def barred(client, name: str, onnx_sha256: str) -> str | None:
    """Why a model may not be promoted by itself, if it was rolled back before; or None."""
    for version in tracking.versions(client, name):
        if version.tags.get("onnx_sha256") == onnx_sha256 and BARRED in version.tags:
            return f"it is {version.label} again, which was rolled back: {version.tags[BARRED]}"
    return None


def _version(client, name: str, number: str) -> Version:
    registered = tracking.versions(client, name)
    for version in registered:
        if version.number == str(number).removeprefix("v"):
            return version
    raise TrackingError(no_version(name, str(number), registered))


def _write(client, name: str, ledger: Sequence[Reign], entry: Reign) -> None:
    text = json.dumps(asdict(entry))
    tracking.set_model_tag(client, name, f"{ENTRY}{len(ledger) + 1:06d}", text)
