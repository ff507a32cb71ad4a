"""Status: what serves, how old it is, what the gate said last, what is stale.

It decides what a person is told who asks how things are. It changes nothing.
"""

from datetime import datetime

from loopbook import loop_records, monitor_records, pipeline, tracking
from loopbook.contract import parse_instant, read_contract
from loopbook.files import read_json
from loopbook.project import Project
from loopbook.sources import utc_now


def describe(project: Project) -> list[str]:
    """The state of a project, a fact a line.

    Raises
    ------
    LoopbookError
        If the contract, env.yaml, the source or the graph is wrong.
    """
    contract = read_contract(project.contract)
    client = tracking.connect(project)
    champion = tracking.holder(client, contract.name, tracking.CHAMPION)
    lines = [f"project     {contract.name} in {project.root}"]
    if champion is None:
        lines.append("champion    none yet")
    else:
        lines += _champion_lines(champion, utc_now())
    decision = project.var / "build" / "decision.json"
    if decision.exists():
        record = read_json(decision)
        lines.append(f"last gate   {record['decided_at'][:16]} UTC. {record['sentence']}")
    if window := monitor_records.newest(project):
        lines.append(
            f"monitored   as of {window['as_of'][:16]} UTC. {window['verdict']['sentence']}"
        )
    if turns := loop_records.listed(project):
        last = turns[-1]
        lines.append(
            f"last turn   as of {last['as_of'][:16]} UTC. {last['outcome']}: {last['reason']}"
        )
    if left := loop_records.open_turn(project):
        lines.append(f"open turn   at {left['stage']}; go on with it: loopbook loop --once")
    if asked := loop_records.asked(project):
        lines.append(f"asked       for a retraining by {asked['by']}: {asked['reason']}")
    stale = pipeline.stale_tasks(project)
    lines.append(f"stale       {', '.join(stale) if stale else 'nothing'}")
    lines.append(f"next        {'make build' if stale else 'make lab, make mlflow'}")
    return lines


def _champion_lines(champion: tracking.Version, now: datetime) -> list[str]:
    tags = champion.tags
    promoted = tags.get("promoted_at")
    age = f", {(now - parse_instant(promoted)).days} days ago" if promoted else ""
    return [
        f"champion    {champion.label} ({tags.get('candidate', 'unknown')}), "
        f"promoted {promoted[:16] if promoted else 'by hand'}{age}",
        f"data        snapshot {tags.get('snapshot_sha256', 'unknown')[:12]}, "
        f"as of {tags.get('as_of', 'unknown')[:10]}",
    ]
