"""Replay lane: one policy of a replay, in a process of its own.

It decides what is sent when, and what the policy then does. The working
directory is the policy's project; the folder above it holds the plan and the
rows.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from loopbook.data import prediction_log
from loopbook.data.row_keys import RowKeys
from loopbook.features import materialize
from loopbook.loop import replay_levels, replay_results, replay_stores
from loopbook.loop import turn as loops
from loopbook.loop.replay_results import (
    FIRST,
    LOOP,
    PINNED,
    SCHEDULED,
    moments,
    plain,
    state_of,
)
from loopbook.loop.scenarios import SCENARIOS, TOLD_TS, Scenario, disturbed
from loopbook.models import promotion
from loopbook.pipeline import graph, runs
from loopbook.project import clock
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import BuildFailed, LoopbookError, ReplayError
from loopbook.project.files import read_json, replacing, write_json
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.registry import champions, tracking

SCHEDULE, WEEK, DAY = timedelta(days=28), timedelta(days=7), timedelta(days=1)
SENDERS, TRUTHS = 4, 1_000


def make_first(project: Project) -> None:
    """Build the version that every policy begins with."""
    start = read_json(project.root / "start.json")["start"]
    graph.build(project, {"as_of": start})
    contract = read_contract(project.contract)
    if contract.history:
        materialize.materialize(project, start, rebuild=False)
    first = tracking.holder(tracking.connect(project), contract.name, tracking.CHAMPION)
    if first is None:
        decision = read_json(project.var / "build" / "decision.json")
        ways = "".join(f"\n  - {way}" for way in decision["ways_on"][1:])
        raise ReplayError(
            f"the first build, as of {start}, has no champion. {decision['sentence']}. Begin "
            f"later (--start), or:{ways}"
        )
    state = {"first": first.number, "line": "the first version serves"}
    write_json(project.var / "replay.json", state)


def renewed_every(contract: Contract) -> timedelta:
    """How often trailing features are made anew: three times in the shortest window.

    At least once a week, and not more than once a day: a table whose features
    tell of three days would be asked with features that tell of nothing.
    """
    shortest = min((one.window_days for one in contract.trailing.values()), default=3 * WEEK.days)
    return max(DAY, min(WEEK, DAY * (shortest // 3)))


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
        self.state = {"done": 0, "sent": 0, "failed": 0, "builds": 0} | state_of(self.project.root)
        self.is_resumed = True  # what was answered before is not asked again
        self.parent = os.getppid()
        self.disturbed_from = self.moments[0]
        self.levels: replay_levels.Levels
        self.renewed = renewed_every(self.contract)
        self.rows = disturbed(
            pl.read_parquet(self.folder / "rows.parquet", glob=False),
            self.scenario,
            self.contract,
            self.disturbed_from,
        )

    def run(self) -> None:
        with ExitStack() as stack:
            services = {self.policy: stack.enter_context(service(self.project, {}))}
            for pinned in PINNED if self.policy == LOOP and self.scenario is None else ():
                own = {prediction_log.ADDRESS: replay_stores.made_log(self.project, pinned)}
                services[pinned] = stack.enter_context(
                    service(self.project, own, "--version", self.state["first"])
                )
            self.levels = replay_levels.of(
                self.project, self.contract, services, self.state["first"]
            )
            for place in range(self.state["done"], len(self.moments)):
                self._step(place, services)
                if os.getppid() != self.parent:
                    raise ReplayError("the replay was killed, so this policy stops here")

    def _step(self, place: int, services: Mapping[str, str]) -> None:
        """A step day by day from the first that has not passed, then the policy's turn."""
        before = self.moments[place - 1] if place else self.start
        moment = self.moments[place]
        day = max(before, parse_instant(self.state.get("day", before.isoformat())))
        while day < moment:
            until = min(day + DAY, moment)
            self._day(day, until, services)
            if self.contract.history and (
                (until - before) % self.renewed == timedelta() or until == moment
            ):
                materialize.materialize(self.project, until.isoformat(), rebuild=False)
            self._remember(day=until.isoformat())
            day = until
        done = self._act(moment, services[self.policy])
        self._remember(done=place + 1, line=f"{moment:%Y-%m-%d}  {done}")
        self.is_resumed = False

    def _day(self, since: datetime, until: datetime, services: Mapping[str, str]) -> None:
        """A day's requests, answered with the states of its beginning, and what came true by its end."""
        asked = self.rows.filter(pl.col(EVENT_TS).is_between(since, until, closed="left"))
        truths = self.rows.filter(
            pl.col(TOLD_TS).is_between(since, until, closed="right"),
            pl.col(EVENT_TS) < until,
        )
        if not asked.is_empty():
            self.levels.make(since)
        for policy, address in services.items():
            answered = self._answered(policy, (since, until)) if self.is_resumed else set()
            failed = self._send(asked, address, answered)
            self._tell(truths, address)
            self.state["sent"] += asked.height
            self.state["failed"] += failed

    def _send(self, rows: pl.DataFrame, address: str, known: set[str]) -> int:
        """Ask the service about every row that it has not answered; how many requests failed."""
        keys = RowKeys(self.contract, self.project.var)
        requests = []
        for row in rows.to_dicts():
            if keys.text(plain(row)) not in known:
                request = {n: row[n] for n in self.contract.features if row[n] is not None}
                request |= {n: plain(row)[n] for n in self.contract.key}
                requests.append(request | {"as_of": row[EVENT_TS].isoformat()})
        with httpx.Client(base_url=address, timeout=30) as http:

            def ask(request: dict[str, Any]) -> bool:
                try:
                    return http.post("/predict", json=request).status_code == 200
                except httpx.HTTPError:
                    return False

            with ThreadPoolExecutor(SENDERS) as pool:
                return list(pool.map(ask, requests)).count(False)

    def _answered(self, policy: str, span: tuple[datetime, datetime]) -> set[str]:
        log = replay_stores.log_of(self.project, policy)
        answers = replay_results.answers(self.project, self.contract, log, *span)
        return {key for key in answers["key"] if key}

    def _tell(self, rows: pl.DataFrame, address: str) -> None:
        truths = [
            {
                "key": {n: plain(row)[n] for n in self.contract.key},
                "observed": row[self.contract.target.name],
                "known_at": row[TOLD_TS].isoformat(),
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
        spoils = self.scenario is not None and self.scenario.spoils_source
        if spoils and moment == self.disturbed_from and "spoiled" not in self.state:
            self._spoil(moment)
            self._remember(spoiled=True)
        record = loops.turn(
            self.project, as_of=moment, changes={"loop_service": address, "loop_confirm_s": 30}
        )
        return f"{record.get('verdict') or '-'}, {record['outcome']}, {record.get('champion')}"

    def _as_scheduled(self, moment: datetime) -> str:
        last = parse_instant(self.state.get("built_at", self.start.isoformat()))
        if moment - last < SCHEDULE:
            return "nothing due"
        self.state |= {"built_at": moment.isoformat(), "builds": self.state["builds"] + 1}
        try:
            graph.build(self.project, {"as_of": moment.isoformat()})
        except BuildFailed as error:  # the control goes on with what it has, as people do
            return f"build failed: {str(error).splitlines()[0]}"
        decision = read_json(self.project.var / "build" / "decision.json")
        time.sleep(3)  # the service looks at the alias every two seconds
        return f"built, {promotion.outcome_of(decision)} {decision['challenger']['label']}"

    def _spoil(self, moment: datetime) -> None:
        """Shuffle the source's labels, and ask for a retraining or promote what comes of it."""
        source = self.project.root / "data" / "source.parquet"
        whole = source.with_name("whole.parquet")
        if not whole.exists():  # a replay that was killed here comes again
            shutil.copy(source, whole)
        rows, target = pl.read_parquet(whole, glob=False), self.contract.target.name
        shuffled = rows[target][np.random.default_rng(1).permutation(rows.height)]
        with replacing(source) as path:
            rows.with_columns(shuffled).write_parquet(path)
        if not self.scenario.by_hand:
            turn_records.ask(self.project, "the replay", "a new export of the source")
            return
        graph.build(self.project, {"as_of": moment.isoformat()})
        with replacing(source) as path:
            shutil.copy(whole, path)
        client, name = tracking.connect(self.project), self.contract.name
        worse = read_json(self.project.var / "build" / "decision.json")["challenger"]["version"]
        if tracking.holder(client, name, tracking.CHAMPION).number != worse:
            words = {"reason": "a person was sure", "at": clock.utc_now()}
            champions.promote_by_hand(client, name, worse, **words, as_of=moment.isoformat())

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
        env=os.environ | variables,
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


def main() -> None:
    """Run one policy; the working directory is its project."""
    policy = sys.argv[1]
    try:
        with runs.terminated_like_interrupted():
            if policy == FIRST:
                make_first(Project(Path.cwd()))
            else:
                Lane(policy).run()
    except LoopbookError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
