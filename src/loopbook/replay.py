"""Replay: the past through the real parts, with two controls on the same requests.

It decides what is sent when, who retrains when, and what is compared. A policy
is a project of its own below `var/replay`: its source ends where the replay
starts, so that all it learns later came back through its service. `loop` lets
the loop decide; `scheduled` builds every four weeks and lets the gate decide;
`never` is the first version, which goes on beside the loop's service.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import yaml

from loopbook import (
    champions,
    evaluation,
    feature_table,
    loop,
    loop_plots,
    loop_records,
    performance,
    pipeline,
    prediction_log,
    sources,
    tracking,
    validation,
)
from loopbook.contract import Contract, parse_instant, read_contract
from loopbook.errors import LoopbookError, ReplayError
from loopbook.files import read_json, replacing, write_json, write_text
from loopbook.prediction_log import key_text
from loopbook.project import Project
from loopbook.scenarios import SCENARIOS, Scenario
from loopbook.sources import EVENT_TS, KNOWN_TS

LOOP, SCHEDULED, NEVER = "loop", "scheduled", "never"
NAMES = {NEVER: "never retrain", SCHEDULED: "every four weeks", LOOP: "the loop"}
SCHEDULE, WEEK = timedelta(days=28), timedelta(days=7)
COPIED = ("env.yaml", "pipeline.yaml", "pipeline.monitor.yaml", "requirements.lock")
SENDERS, TRUTHS = 4, 1_000
STEPS = ("week", "month")
FAR = parse_instant("9999-01-01")  # everything is known by then


def moments(start: datetime, end: datetime, step: str) -> list[datetime]:
    """The ends of the steps from `start` on; the last one is the first that is not before `end`."""
    found, at = [], start
    while at < end:
        if step == "week":
            at += timedelta(days=7)
        else:
            at = (at.replace(day=1) + timedelta(days=32)).replace(day=1)
        found.append(at)
    return found


def run(
    project: Project,
    *,
    scenario: str | None,
    step: str,
    start: datetime,
    until: datetime | None,
    candidates: Sequence[str],
    afresh: bool,
) -> list[str]:
    """Replay, or go on with a replay; lines for people.

    Raises
    ------
    ReplayError
        If a policy stopped; what it had done stays, and the next call goes on.
    """
    if scenario and scenario not in SCENARIOS:
        raise ReplayError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}.")
    if step not in STEPS:
        raise ReplayError(f"no step {step!r}; there are {', '.join(STEPS)}.")
    contract = read_contract(project.contract)
    if contract.event_time is None:
        raise ReplayError("the contract names no event_time, so there is no past to replay.")
    folder = project.var / "replay" / f"{scenario or 'year'}-{step}"
    if afresh:
        shutil.rmtree(folder, ignore_errors=True)
    rows = _rows(project, contract)
    end = until or rows[EVENT_TS].max() + timedelta(days=1)
    rows = rows.filter(pl.col(EVENT_TS) < end)
    told = {"scenario": scenario, "step": step, "start": start.isoformat(), "end": end.isoformat()}
    told["candidates"] = list(candidates)
    if (folder / "plan.json").exists() and read_json(folder / "plan.json") != told:
        raise ReplayError(f"{folder}: holds another replay. Begin anew: loopbook replay --afresh")
    policies = [LOOP] if scenario else [LOOP, SCHEDULED]
    for policy in policies:
        if not (folder / policy / "contract.yaml").exists():
            _make_project(
                project, folder / policy, rows.filter(pl.col(EVENT_TS) < start), candidates
            )
    with replacing(folder / "rows.parquet") as path:
        rows.filter(pl.col(EVENT_TS) >= start).write_parquet(path)
    write_json(folder / "plan.json", told)
    began = time.monotonic()
    _run_lanes(folder, policies, len(moments(start, end, step)))
    result = collect(folder, contract)
    result["seconds"] = round(time.monotonic() - began, 1)
    write_json(folder / "result.json", result)
    if not scenario:
        with replacing(folder / "replay.svg") as path:
            figure(result).savefig(path, format="svg")
    return [*lines(result), f"record      {folder / 'result.json'}"]


def _rows(project: Project, contract: Contract) -> pl.DataFrame:
    raw = sources.read_source(contract, project.root)
    known, _ = sources.known_by(raw, FAR, contract, now=sources.utc_now())
    kept, _ = validation.without_known_faults(known, contract)
    return validation.conform(kept, contract)


def _make_project(
    project: Project, folder: Path, rows: pl.DataFrame, candidates: Sequence[str]
) -> None:
    """A copy of the project whose source holds these rows only."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(project.root / name, folder)
    shutil.copytree(project.root / "notebooks", folder / "notebooks")
    if candidates:
        graph = folder / "pipeline.yaml"
        grid = f"names: [{', '.join(candidates)}]"
        graph.write_text(re.sub(r"names: \[[^]]*\]", grid, graph.read_text()))
    contract = read_contract(project.contract)
    rows.select(contract.columns).write_parquet(folder / "data" / "source.parquet")
    text = yaml.safe_load(project.contract.read_text(encoding="utf-8"))
    text["source"] = {"path": "data/source.parquet"}
    write_text(folder / "contract.yaml", yaml.safe_dump(text, sort_keys=False, allow_unicode=True))


def _run_lanes(folder: Path, policies: Sequence[str], steps: int) -> None:
    """A process a policy, and a line whenever one has come further."""
    lanes = {}
    for policy in policies:
        with (folder / f"{policy}.txt").open("a") as log:
            lanes[policy] = subprocess.Popen(
                [sys.executable, "-m", "loopbook.replay", policy],
                cwd=folder / policy,
                env=_environment(folder / policy),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    shown: dict[str, str] = {}
    try:
        while any(lane.poll() is None for lane in lanes.values()):
            for policy in lanes:
                state = _state(folder / policy)
                line = f"  {NAMES[policy]:<17} {state.get('done', 0):>3}/{steps} {state.get('told', 'builds the first version')}"
                if shown.get(policy) != line:
                    print(line, flush=True)
                    shown[policy] = line
            time.sleep(1)
    finally:
        for lane in lanes.values():
            if lane.poll() is None:
                lane.terminate()
        for lane in lanes.values():
            lane.wait(60)
    stopped = [policy for policy, lane in lanes.items() if lane.returncode]
    if stopped:
        log = folder / f"{stopped[0]}.txt"
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ReplayError(f"{log}: {NAMES[stopped[0]]} stopped.\n{last}\nGo on: loopbook replay")


def _environment(folder: Path) -> dict[str, str]:
    """The environment of a process in another project: nothing of ours in it."""
    own = ("LOOPBOOK_PROJECT", prediction_log.ADDRESS, "LOOPBOOK_FEATURE_STORE", "LOOPBOOK_WEBHOOK")
    clean = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}
    here = Path(__file__).parents[2]
    return clean | {"PYTHONPATH": os.pathsep.join([str(here), str(here / "src")])}


# -- one policy, in a process of its own ---------------------------------


def _state(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "var" / "replay.json")
    except (OSError, ValueError):
        return {}


class Lane:
    """One policy on its way through the steps; the working directory is its project."""

    def __init__(self, policy: str):
        self.policy, self.project = policy, Project(Path.cwd())
        self.contract = read_contract(self.project.contract)
        self.folder = self.project.root.parent
        plan = read_json(self.folder / "plan.json")
        self.scenario: Scenario | None = SCENARIOS.get(plan["scenario"] or "")
        self.start, self.end = parse_instant(plan["start"]), parse_instant(plan["end"])
        self.moments = moments(self.start, self.end, plan["step"])
        self.state = {"done": 0, "sent": 0, "failed": 0, "builds": 0} | _state(self.project.root)
        self.disturbed_from = self.moments[0]
        self.rows = self._disturbed(pl.read_parquet(self.folder / "rows.parquet"))

    def _disturbed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows as they are sent; `told_ts` is when their ground truth comes."""
        told = pl.col(KNOWN_TS)
        if self.scenario is None:
            return rows.with_columns(told.alias("told_ts"))
        before = rows.filter(pl.col(EVENT_TS) < self.disturbed_from)
        after = self.scenario.change(
            rows.filter(pl.col(EVENT_TS) >= self.disturbed_from), self.contract
        )
        target = self.contract.target.name
        observed = self.scenario.truth(after[target].to_numpy(), after, self.disturbed_from)
        after = after.with_columns(pl.Series(target, observed))
        late = timedelta(days=self.scenario.late_days)
        return pl.concat(
            [
                before.with_columns(told.alias("told_ts")),
                after.with_columns((told + late).alias("told_ts")),
            ]
        )

    def run(self) -> None:
        if "first" not in self.state:
            pipeline.build(self.project, {"as_of": self.start.isoformat()})
            if self.contract.history:
                feature_table.materialize(self.project, self.start.isoformat(), rebuild=False)
            first = tracking.holder(
                tracking.connect(self.project), self.contract.name, tracking.CHAMPION
            )
            if first is None:
                raise ReplayError("the first build has no champion; see var/build/promote.ipynb")
            self._remember(first=first.number, told="the first version serves")
        with ExitStack() as stack:
            services = {self.policy: stack.enter_context(service(self.project, {}))}
            if self.policy == LOOP and self.scenario is None:
                never = {prediction_log.ADDRESS: f"sqlite:///{self.project.var / 'never.db'}"}
                services[NEVER] = stack.enter_context(
                    service(self.project, never, "--version", self.state["first"])
                )
            for place in range(self.state["done"], len(self.moments)):
                self._step(place, services)

    def _step(self, place: int, services: Mapping[str, str]) -> None:
        """A step's requests, ground truth and features week by week, then the policy's turn."""
        before = self.moments[place - 1] if place else self.start
        moment = self.moments[place]
        while before < moment:
            until = min(before + WEEK, moment)
            self._week(before, until, services)
            if self.contract.history:
                feature_table.materialize(self.project, until.isoformat(), rebuild=False)
            before = until
        told = self._act(moment, services[self.policy])
        self._remember(done=place + 1, told=f"{moment:%Y-%m-%d}  {told}")

    def _week(self, since: datetime, until: datetime, services: Mapping[str, str]) -> None:
        asked = self.rows.filter(pl.col(EVENT_TS).is_between(since, until, closed="left"))
        truths = self.rows.filter(
            pl.col("told_ts").is_between(since, until, closed="right"),
            pl.col(EVENT_TS) < until,
        )
        for policy, address in services.items():
            sent, failed = self._send(asked, address, policy, (since, until))
            self._tell(truths, address)
            self.state["sent"] += sent
            self.state["failed"] += failed

    def _send(
        self, rows: pl.DataFrame, address: str, policy: str, span: tuple[datetime, datetime]
    ) -> tuple[int, int]:
        """Ask the service about every row that it was not asked about; how many, and how many failed."""
        known = self._answered(policy, span)
        requests = []
        for row in rows.to_dicts():
            if key_text(self.contract, _plain(row)) not in known:
                request = {n: row[n] for n in self.contract.features if row[n] is not None}
                request |= {n: _plain(row)[n] for n in self.contract.key}
                requests.append(request | {"as_of": row[EVENT_TS].isoformat()})
        with httpx.Client(base_url=address, timeout=30) as http:

            def ask(request: dict[str, Any]) -> bool:
                try:
                    return http.post("/predict", json=request).status_code == 200
                except httpx.HTTPError:
                    return False

            with ThreadPoolExecutor(SENDERS) as pool:
                answered = list(pool.map(ask, requests))
        return len(answered), answered.count(False)

    def _answered(self, policy: str, span: tuple[datetime, datetime]) -> set[str]:
        return {key for key in _log(self.project, self.contract, policy, *span)["key"] if key}

    def _tell(self, rows: pl.DataFrame, address: str) -> None:
        truths = [
            {
                "key": {n: _plain(row)[n] for n in self.contract.key},
                "observed": row[self.contract.target.name],
                "known_at": row["told_ts"].isoformat(),
            }
            for row in rows.to_dicts()
        ]
        for start in range(0, len(truths), TRUTHS):
            body = {"truths": truths[start : start + TRUTHS]}
            answer = httpx.post(f"{address}/feedback", json=body, timeout=60)
            if answer.status_code not in (200, 404):
                raise ReplayError(f"/feedback answered {answer.status_code}: {answer.text[:300]}")

    def _act(self, moment: datetime, address: str) -> str:
        if self.policy == SCHEDULED:
            return self._as_scheduled(moment)
        if self.scenario and self.scenario.spoils_source and moment == self.disturbed_from:
            self._spoil(moment)
        record = loop.turn(
            self.project, as_of=moment, changes={"loop_service": address, "loop_confirm_s": 30}
        )
        return f"{record.get('verdict') or '-'}, {record['outcome']}, {record.get('champion')}"

    def _as_scheduled(self, moment: datetime) -> str:
        last = parse_instant(self.state.get("built_at", self.start.isoformat()))
        if moment - last < SCHEDULE:
            return "nothing due"
        pipeline.build(self.project, {"as_of": moment.isoformat()})
        decision = read_json(self.project.var / "build" / "decision.json")
        self.state |= {"built_at": moment.isoformat(), "builds": self.state["builds"] + 1}
        time.sleep(3)  # the service looks at the alias every two seconds
        return f"built, {'promoted' if decision['promoted'] else 'refused'} {decision['challenger']['label']}"

    def _spoil(self, moment: datetime) -> None:
        """Shuffle the source's labels, and ask for a retraining or promote what comes of it."""
        source = self.project.root / "data" / "source.parquet"
        kept = source.read_bytes()
        target = self.contract.target.name
        rows = pl.read_parquet(source)
        draw = np.random.default_rng(1)
        rows.with_columns(
            pl.Series(target, draw.permutation(rows[target].to_numpy()))
        ).write_parquet(source)
        if not self.scenario.by_hand:
            loop_records.ask(self.project, "the replay", "a new export of the source")
            return
        pipeline.build(self.project, {"as_of": moment.isoformat()})
        source.write_bytes(kept)
        decision = read_json(self.project.var / "build" / "decision.json")
        champions.promote_by_hand(
            tracking.connect(self.project),
            self.contract.name,
            decision["challenger"]["version"],
            reason="a person was sure",
            at=sources.utc_now(),
            as_of=moment.isoformat(),
        )

    def _remember(self, **more: Any) -> None:
        self.state |= more
        write_json(self.project.var / "replay.json", self.state)


@contextmanager
def service(project: Project, variables: Mapping[str, str], *words: str) -> Iterator[str]:
    """A service of a project in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serving", "--port", str(port), "--quiet", *words]
    running = subprocess.Popen(
        command,
        cwd=project.root,
        env=_environment(project.root) | variables,
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(address, running)
        yield address
    finally:
        running.terminate()
        running.wait(30)


def _wait_until_ready(address: str, running: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        try:
            if httpx.get(f"{address}/health/ready", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise ReplayError(f"the service at {address} did not become ready; see the lines above")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Days and instants of a row as text."""
    return {n: v.isoformat() if isinstance(v, datetime | date) else v for n, v in row.items()}


# -- what came of it ------------------------------------------------------


def _log(
    project: Project, contract: Contract, policy: str, since: datetime, until: datetime
) -> pl.DataFrame:
    """What a policy's service answered: `key`, `as_of_ts`, `answer`, `version`."""
    names = ["key", "as_of_ts", "answer", "version"]
    file = project.var / ("never.db" if policy == NEVER else "predictions.db")
    empty = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    if not file.exists():
        return empty
    log = prediction_log.at(f"sqlite:///{file}", contract)
    try:
        parts = [
            part.filter(pl.col("role") == prediction_log.CHAMPION).select(names)
            for part in log.rows(since=since, until=until)
        ]
    finally:
        log.close()
    return pl.concat(parts) if parts else empty


def collect(folder: Path, contract: Contract) -> dict[str, Any]:
    """Error and bias by month and policy, the turns, and how many requests failed."""
    plan = read_json(folder / "plan.json")
    start, end = parse_instant(plan["start"]), parse_instant(plan["end"])
    rows = pl.read_parquet(folder / "rows.parquet")
    rows = rows.with_columns(
        pl.Series("key", [key_text(contract, _plain(row)) for row in rows.to_dicts()])
    ).select("key", contract.target.name)
    loops = Project(folder / LOOP)
    projects = (
        {LOOP: loops}
        if plan["scenario"]
        else {NEVER: loops, SCHEDULED: Project(folder / SCHEDULED), LOOP: loops}
    )
    months = []
    for policy, project in projects.items():
        answers = _log(project, contract, policy, start, end).join(rows, on="key")
        for (month,), some in answers.group_by(
            pl.col("as_of_ts").dt.truncate("1mo"), maintain_order=True
        ):
            observed, answered = some[contract.target.name].to_numpy(), some["answer"].to_numpy()
            months.append(
                {
                    "policy": policy,
                    "month": f"{month:%Y-%m}",
                    "rows": some.height,
                    "error": float(evaluation.losses(observed, answered).mean()),
                    "bias": float(performance.log_errors(observed, answered).mean()),
                }
            )
    turns = loop_records.listed(loops)
    states = {policy: _state(folder / policy) for policy in projects if policy != NEVER}
    result = plan | {
        "months": months,
        "turns": turns,
        "retrains": {LOOP: sum(bool(t.get("attempt")) for t in turns)}
        | {policy: states[policy]["builds"] for policy in states if policy != LOOP},
        "requests": sum(month["rows"] for month in months),
        "failed": sum(state["failed"] for state in states.values()),
    }
    if plan["scenario"]:
        scenario = SCENARIOS[plan["scenario"]]
        since = moments(start, end, plan["step"])[0]
        later = [t for t in turns if parse_instant(t["as_of"]) > since]
        result |= {"right": scenario.is_right(later), "expected": scenario.expected}
    return result


def lines(result: Mapping[str, Any]) -> list[str]:
    """The result as a table for people."""
    if result["scenario"]:
        return [
            *(
                f"  {t['as_of'][:10]}  {t.get('verdict') or '-':<11}  {t['outcome']:<11}  "
                f"{t.get('champion')}  {t['reason'][:110]}"
                for t in result["turns"]
            ),
            f"expected    {result['expected']}",
            f"that is     {'what it did' if result['right'] else 'NOT what it did'}; "
            f"{result['failed']} of {result['requests']:,} requests failed",
        ]
    by = {(m["policy"], m["month"]): m for m in result["months"]}
    policies = [p for p in NAMES if any(m["policy"] == p for m in result["months"])]
    told = ["month     " + "".join(f"{NAMES[p]:>26}" for p in policies)]
    for month in sorted({m["month"] for m in result["months"]}):
        cells = [by.get((p, month)) for p in policies]
        told.append(
            f"{month:<10}"
            + "".join(f"{c['error']:>16.2%} {c['bias']:>+8.3f} " if c else " " * 26 for c in cells)
        )
    told.append(
        f"retrained {'':<24}0{result['retrains'].get(SCHEDULED, 0):>26}{result['retrains'][LOOP]:>26}"
    )
    told.append(f"{result['failed']} of {result['requests']:,} requests failed")
    return told


def figure(result: Mapping[str, Any]) -> Any:
    """The error of the policies by month, with what the loop did."""
    series = {
        NAMES[policy]: [
            (parse_instant(f"{m['month']}-15"), m["error"])
            for m in result["months"]
            if m["policy"] == policy
        ]
        for policy in NAMES
    }
    turns = result["turns"]
    return loop_plots.policies(
        series,
        loop_records.changes(turns),
        "MAPE of the month's answers",
        loop_records.verdicts(turns),
    )


def main() -> None:
    """Run one policy's lane; the working directory is its project."""
    try:
        Lane(sys.argv[1]).run()
    except LoopbookError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
