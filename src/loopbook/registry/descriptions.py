"""Descriptions: what MLflow's own pages say of a model and of each version.

It decides the words: why a version serves or does not, by whose decision and
when (done at, and as of which data), and where its dossier is. They are written
whenever that changes, and nothing reads them back.
"""

from collections.abc import Iterable
from datetime import datetime

from loopbook.project.contract import Contract
from loopbook.registry import notes, tracking
from loopbook.registry.reader import BARRED
from loopbook.registry.tracking import CHAMPION, Version

MEANING = "meaning"  # tag of the registered model: what its contract says
DECIDED = {
    "gate": "decided by the gate",
    "by hand": "decided by hand",
    "rollback": "decided by a rollback",
}
DOSSIER = "dossier_sha256"  # tag of a version whose run has a dossier


def write(client, name: str, changed: Iterable[Version | None] = ()) -> None:
    """Describe a model, its champion, and the versions for which something has changed."""
    champion = tracking.holder(client, name, CHAMPION)
    numbers = {version.number for version in (champion, *changed) if version}
    for number in sorted(numbers, key=int):
        version = tracking.version_of(client, name, number)
        place = tracking.artifacts_page(client, version)
        tracking.describe(client, name, of_version(version, champion, place), number)
    meaning = tracking.model_tags(client, name).get(MEANING, "")
    tracking.describe(client, name, of_model(meaning, champion))


def tags_of(contract: Contract) -> dict[str, str]:
    """What the tags of a registered model say of its table, for those who search by them."""
    target = contract.target
    about = {
        MEANING: contract.meaning[:5000],
        "task": contract.task,
        "target": target.name,
        "target_meaning": target.meaning[:5000],
        "unit": target.unit,
        "metric": target.metric,
    }
    return {key: value for key, value in about.items() if value}


def of_model(meaning: str, champion: Version | None) -> str:
    """What is said of a registered model."""
    serves = _serves(champion) if champion else "None of its versions serves."
    return f"{meaning} {serves}".strip()


def of_version(version: Version, champion: Version | None, artifacts: str) -> str:
    """What is said of a version: why it serves or does not, and where it comes from.

    Parameters
    ----------
    artifacts : str
        The page of its run's files, within MLflow's own pages; empty without one.
    """
    tags = version.tags
    told = [_standing(version, champion)]
    if tags.get("gate_reason") not in (None, tags.get("promoted_reason")):
        told.append(f"The gate said: {_sentence(tags['gate_reason'])}")
    told.append(
        f"Candidate {tags.get('candidate', 'unknown')}, snapshot "
        f"`{tags.get('snapshot_sha256', 'unknown')[:12]}`, commit "
        f"`{tags.get('git_commit', 'unknown')[:12]}`."
    )
    if artifacts:
        why = f"[Why, check by check]({artifacts}/decision/{notes.READABLE})"
        paper = [f"[dossier]({artifacts}/dossier/dossier.html)"] if DOSSIER in tags else []
        told.append(", ".join([why, *paper, f"[all files]({artifacts})"]))
    return "\n\n".join(told)


def _standing(version: Version, champion: Version | None) -> str:
    if champion and champion.number == version.number:
        return _serves(version)
    if BARRED in version.tags:
        return f"Does not serve: it was rolled back. {_sentence(version.tags[BARRED])}"
    if version.tags.get("promoted_at"):
        now = f"v{champion.number} serves" if champion else "nothing serves"
        return f"Served from {_when(version)}; now {now}."
    return "Does not serve: it was not promoted."


def _serves(version: Version) -> str:
    kind = version.tags.get("promoted_kind", "gate")
    why = _sentence(version.tags.get("promoted_reason") or version.tags.get("gate_reason", ""))
    return f"v{version.number} serves, {DECIDED.get(kind, kind)}, {_when(version)}. {why}".strip()


def _when(version: Version) -> str:
    """Both clocks: the wall's, and the data's."""
    told = []
    for tag, words in (("promoted_at", "done at"), ("promoted_as_of", "as of")):
        try:
            moment = datetime.fromisoformat(version.tags[tag])
        except (LookupError, ValueError):
            continue
        told.append(f"{words} {moment:%Y-%m-%d %H:%M} UTC")
    return ", ".join(told) or "at an unknown time"


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
