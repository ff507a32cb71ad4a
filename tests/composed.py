"""deploy/compose.yaml brought up by podman-compose, on images that are made here.

PostgreSQL's and Prometheus's own images come from a registry; where there is
none, Debian's packages stand for them under the names that the file asks for.
What the file says of health is run by `healthy`, since podman wants systemd for it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from conftest import free_port
from containers import Containers
from small_house import loopbook

SERVERS = """
FROM python:3.11-slim AS debian
RUN mkdir -p /etc/postgresql-common \\
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \\
 && apt-get update -qq \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql prometheus \\
 && rm -rf /var/lib/apt/lists/*

FROM debian AS postgres
COPY start /usr/local/bin/
ENTRYPOINT ["sh", "/usr/local/bin/start"]

FROM debian AS prometheus
RUN install -d -o nobody /prometheus
USER 65534
ENTRYPOINT ["prometheus"]
"""
# What PostgreSQL's own image does with a new volume.
START = """
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=/var/lib/postgresql/data
server() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
if [ ! -s $data/PG_VERSION ]; then
  install -d -o postgres -m 700 $data
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  chmod 644 /tmp/password
  server initdb -D $data -U "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 \\
    --auth-local trust --encoding UTF8 --locale C.UTF-8 --no-sync
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> $data/pg_hba.conf
  server pg_ctl -D $data -w start -o "-c listen_addresses= -k /tmp"
  createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql -h /tmp -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -f "$file"
  done
  server pg_ctl -D $data -w stop
fi
exec setpriv --reuid postgres --regid postgres --clear-groups \\
  postgres -D $data -k /tmp -c 'listen_addresses=*' -c fsync=off
"""
PORTS = ("SERVICE", "MLFLOW", "REPORTS", "LAB", "PROMETHEUS", "GRAFANA")
LIMITS = "--cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024"


def stand_ins(containers: Containers, folder: Path) -> dict[str, str]:
    """Images of PostgreSQL and Prometheus, by the settings that name them."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(SERVERS)
    (folder / "start").write_text(START)
    settings = {}
    for name in ("postgres", "prometheus"):
        image = settings[f"{name.upper()}_IMAGE"] = f"localhost/loopbook-{name}:debian"
        containers.buildah(
            *("bud", "--format", "docker", "--target", name, "--tag", image, str(folder))
        )
    return settings


class Team:
    """The containers of a project's compose file, under a name and on ports of their own."""

    def __init__(self, containers: Containers, project: Path, settings: Mapping[str, str]):
        self.file = project / "deploy/compose.yaml"
        self.services = yaml.safe_load(self.file.read_text())["services"]
        self.port = {name.lower(): free_port() for name in PORTS}
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.port.items()}
        self.settings = {**ports, **settings}
        lines = "".join(f"{name}={value}\n" for name, value in self.settings.items())
        (project / "deploy/.env").write_text(lines)
        self.without_health = project / "without-health.yaml"
        health = {name: {"healthcheck": {"disable": True}} for name in self.services}
        self.without_health.write_text(yaml.safe_dump({"services": health}))
        self.podman = project / "podman"
        held = ["nsenter", "-m", "-t", str(containers.held.pid), "--", "podman"]
        words = [*held, *containers.base_words, "--storage-driver", "overlay"]
        self.podman.write_text(
            f'#!/bin/sh\nexec {" ".join(words)} --cgroup-manager cgroupfs "$@"\n'
        )
        self.podman.chmod(0o755)
        self.name = f"loopbook-{os.getpid()}"

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        """A command of podman-compose on the file as it is, with its deploy/.env."""
        command = [sys.executable, "-m", "podman_compose", "--podman-path", str(self.podman)]
        command += ["--in-pod", "false", "--project-name", self.name]
        command += [f"--podman-run-args={LIMITS}"]  # of create too
        command += ["--file", str(self.file), "--file", str(self.without_health), *words]
        done = subprocess.run(command, text=True, capture_output=True)
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        return done

    def up(self, *services: str) -> None:
        """Start services, and wait until each is as healthy as the file says."""
        for service in services:
            self.compose("up", "--detach", "--no-deps", "--no-build", service)
            if test := self.services[service].get("healthcheck", {}).get("test"):
                self.wait_for(
                    lambda test=test, name=service: self.ends_well(name, test[1:]), service
                )

    def ends_well(self, service: str, words: list[str]) -> bool:
        """Whether a command in a container ends well."""
        command = [str(self.podman), "exec", f"{self.name}_{service}_1", *words]
        return subprocess.run(command, capture_output=True).returncode == 0

    def wait_for(self, is_there: Callable[[], Any], what: str, seconds: float = 600) -> Any:
        """Until something is true, which is given back; the containers' last words where it never is."""
        deadline = time.monotonic() + seconds
        while not (found := is_there()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} never came:\n{self.logs()[-6000:]}")
            time.sleep(0.5)
        return found

    def logs(self, *services: str) -> str:
        """The last that services have written to stdout and stderr; without a name: all."""
        done = self.compose("logs", "--tail", "200" if services else "40", *services)
        return done.stdout + done.stderr

    def said(self, service: str, *words: str) -> str:
        """What a command in a container writes to stdout."""
        return self.compose("exec", "-T", service, *words).stdout

    def from_outside(self, *words: str) -> None:
        """A command of ours on this machine, with the containers' MLflow."""
        folder = self.file.parents[1]
        done = loopbook(folder, *words, MLFLOW_TRACKING_URI=self.address("mlflow"))
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    def measured(self, query: str) -> list[float]:
        """What Prometheus has for a query now, which it must be able to answer."""
        asked = {"query": query}
        told = httpx.get(f"{self.address('prometheus')}/api/v1/query", params=asked, timeout=10)
        assert told.json()["status"] == "success", (query, told.text)
        return [float(series["value"][1]) for series in told.json()["data"]["result"]]

    @staticmethod
    def status(address: str, **headers: str) -> int | None:
        """A page's status; None while nobody answers."""
        try:
            return httpx.get(
                address, headers=headers, timeout=20, follow_redirects=True
            ).status_code
        except httpx.TransportError:
            return None

    def address(self, service: str) -> str:
        return f"http://127.0.0.1:{self.port[service]}"

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "2", check=False)
