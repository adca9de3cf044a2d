"""
Livehook as it runs in production: its roles as processes of their own, to be killed, frozen and started again by a test.

Each role is a child with a port, a folder and a log of its own. None outlives the test run, even when that is killed.
Used by the tests of crashes, owners and the whole way; logs of a failed test are shown by conftest.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from connectors.kafka.embedded_checks import free_port
from connectors.kafka.embedded_process import TiedProcess
from schemas.topics import Topics

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
READY_S = 120.0
STOP_S = 30.0
END_S = 30.0
POLL_S = 0.05
ASK_S = 5.0
PUT_S = 60.0
TAIL_BYTES = 8_000
WORDS_MAX = 400
BRIEF_LINES = 12  # of each role, so that a report of five roles can be read at a glance, and whole where output is cut
BRIEF_CHARS = 150
PARTITIONS = 4


class NotReady(Exception):
    """A role did not come up; says what its log ends with."""


class Role:
    """
    One process under a lasting name; ``start`` after ``kill`` or ``stop`` begins a new life of it, with the same port and folder.

    Args:  command: streams, sink or api. folder: for its ``--dir`` and its log.
    """

    def __init__(self, name: str, command: str, *, folder: Path, port: int, environment: dict[str, str], bootstrap_servers: str) -> None:
        self.name = name
        self.folder = folder / name
        self.log = folder / f"{name}.log"
        self.url = f"http://{HOST}:{port}"
        self._environment = environment
        self._arguments = [command, "--bootstrap-servers", bootstrap_servers, "--host", HOST, "--port", str(port)]
        self._process: TiedProcess | None = None
        self._frozen = False

    def start(self) -> None:
        """Start it; not waiting for anything."""
        assert not self.is_running, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "livehook", *self._arguments, "--dir", str(self.folder)]
            self._process = TiedProcess(command, cwd=self.folder, env=self._environment, output=output, grace_s=1)

    @property
    def pid(self) -> int:
        """Of its present life."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended; a frozen one runs."""
        return self._process is not None and self._process.poll() is None

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until it says so itself. Raises NotReady."""
        try:
            wait_until(lambda: self.is_ready() or not self.is_running, timeout_s, f"{self.name} is not ready")
        except TimeoutError as error:
            raise NotReady(f"{error}\n{self.log_tail()}") from error
        if not self.is_running:
            raise NotReady(f"{self.name} ended while it started\n{self.log_tail()}")

    def is_ready(self) -> bool:
        """Whether it says so itself now."""
        try:
            return self.is_running and self.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL: no last words."""
        self._send(signal.SIGKILL)
        self._ended(END_S)

    def freeze(self) -> None:
        """SIGSTOP: it does nothing any more and does not know."""
        self._send(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had been."""
        self._send(signal.SIGCONT)
        self._frozen = False

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._send(signal.SIGTERM)
        return self._ended(STOP_S)

    def ask_to_stop(self) -> None:
        """SIGTERM; not waiting for anything."""
        self._send(signal.SIGTERM)

    def wait_ended(self, timeout_s: float) -> int:
        """Until it has ended by itself; its exit code."""
        return self._ended(timeout_s)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.is_running:
            self.kill()

    def get(self, path: str) -> httpx.Response:
        """What its HTTP port answers; raises httpx.HTTPError."""
        return httpx.get(self.url + path, timeout=ASK_S, trust_env=False)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        samples = [sample for family in text_string_to_metric_families(self.get("/metrics").text) for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def log_tail(self) -> str:
        """The end of what it wrote."""
        if not self.log.exists():
            return ""
        data = self.log.read_bytes()
        return f"--- {self.name} ({self.log})\n{data[-TAIL_BYTES:].decode(errors='replace')}"

    def brief(self) -> str:
        """How it is and what it wrote last, a few lines of a few words; the whole log stays in its file."""
        lines = [_brief(line) for line in self.log_tail().splitlines()[2:]]
        return "\n".join([f"{self.health()}; {self.log}", *lines[-BRIEF_LINES:]])

    def health(self) -> str:
        """What it says of itself now."""
        if not self.is_running:
            return "not running"
        try:
            found = {path: self.get(path) for path in ("/livez", "/readyz")}
        except httpx.HTTPError as error:
            return f"no answer: {error!r}"
        return ", ".join(
            f"{path} {answer.status_code} {'' if answer.is_success else answer.text}".strip() for path, answer in found.items()
        )

    def last_words(self) -> str:
        """Why it ended: the last thing that it wrote, of an exception the last line."""
        line = (self.log_tail().strip().splitlines() or [""])[-1]
        try:
            record = json.loads(line)
        except ValueError:
            return line[-WORDS_MAX:]
        return f"{record['event']} {record.get('exception', '').strip().splitlines()[-1:]}"[:WORDS_MAX]

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was not started"
        self._process.send(number)

    def _ended(self, timeout_s: float) -> int:
        assert self._process is not None, f"{self.name} was not started"
        code = self._process.wait(timeout_s)
        assert code is not None, f"{self.name} did not end within {timeout_s:g} s\n{self.log_tail()}"
        return code


class Cluster:
    """
    Streams workers, sinks and one API on a Kafka.

    Args:  folder: for folders and logs. partitions: of mutations and changes.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap_servers: str,
        *,
        chance: random.Random,
        streams: int = 1,
        sinks: int = 1,
        partitions: int = PARTITIONS,
        prefix: str = "livehook.",
    ) -> None:
        self.topics = Topics(prefix, partitions)
        self.bootstrap_servers = bootstrap_servers
        self._folder = folder
        self._chance = chance
        self._environment = _environment(prefix, partitions)
        self._roles: list[Role] = []
        self.streams = [self.add(f"streams-{number}", "streams") for number in range(1, streams + 1)]
        self.sinks = [self.add(f"sink-{number}", "sink") for number in range(1, sinks + 1)]
        self.api = self.add("api", "api")

    def add(self, name: str, command: str) -> Role:
        """One more role, not started; it ends with the cluster."""
        role = Role(
            name,
            command,
            folder=self._folder,
            port=free_port(HOST, self._chance),
            environment=self._environment,
            bootstrap_servers=self.bootstrap_servers,
        )
        self._roles.append(role)
        return role

    def start(self) -> None:
        """Start all, and return when all are ready."""
        for role in self._roles:
            role.start()
        for role in self._roles:
            role.wait_ready()

    def close(self) -> None:
        """End every process that is left."""
        with contextlib.ExitStack() as stack:
            for role in self._roles:
                stack.callback(role.close)

    def states(self) -> Iterator[tuple[str, str]]:
        """For the report of a test that failed: a title and a few lines for each role, and for the lanes that are not empty."""
        for role in self._roles:
            yield role.name, role.brief()
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            lag = [json.dumps(lane) for lane in self.lanes().values() if lane["lag"] != 0]
            yield "lanes with lag", "\n".join(lag[:BRIEF_LINES]) or "none"

    def put_webhook(self, name: str, **fields: Any) -> dict[str, Any]:
        """Create or replace a webhook; returns once the API has answered."""
        return self._ask("PUT", f"/v1/webhooks/{name}", fields)

    def lanes(self) -> dict[str, dict[str, Any]]:
        """Each webhook's lane, as the API shows it."""
        return {lane["webhook"]: lane for lane in self._ask("GET", "/v1/lanes", None)["items"]}

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all streams workers that run."""
        return sum(role.metric(name, **labels) for role in self.streams if role.is_running)

    def _ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = httpx.request(method, self.api.url + path, json=body, timeout=PUT_S, trust_env=False)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def wait_until(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    """Ask again and again until it holds. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {timeout_s:g} s")
        time.sleep(POLL_S)


def _brief(line: str) -> str:
    """A line of a log, without what is the same in all of them."""
    try:
        record = json.loads(line)
    except ValueError:
        return line[:BRIEF_CHARS]
    what = f"{record.get('exception') or record['event']}".strip().splitlines()[-1:]
    return f"{record['time'][11:23]} {record['logger']} {' '.join(what)}"[:BRIEF_CHARS]


def _environment(prefix: str, partitions: int) -> dict[str, str]:
    """What the children see: nothing of Livehook's settings here but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIVEHOOK_")}
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "LIVEHOOK_TOPIC_PREFIX": prefix,
        "LIVEHOOK_PARTITIONS": str(partitions),
        "LIVEHOOK_ALLOW_PRIVATE": "true",
    }
