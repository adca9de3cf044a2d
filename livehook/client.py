"""The API's client for the command line: finds the API, and turns its problems into the ends of a command."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from livehook import __version__
from livehook.exits import Exit, Failed, Unreachable, Wrong
from livehook.settings import BadSettings, load

DEFAULT = "http://127.0.0.1:8080"
READY_FILE = Path(".livehook/ready.json")
PROBE_S_MAX = 1.0
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
WRONG_STATUSES = frozenset({400, 413, 415, 422})


class ProblemAnswer(Exit):
    """The API's answer was a problem (RFC 9457)."""

    def __init__(self, problem: Mapping[str, Any], *, as_json: bool) -> None:
        super().__init__(json.dumps(problem) if as_json else text_of(problem))
        self.status = int(problem.get("status", 500))
        self.detail = str(problem.get("detail", ""))
        self.errors = list(problem.get("errors", []))
        self.code = Wrong.code if self.status in WRONG_STATUSES else Unreachable.code if self.status == 503 else Failed.code


def text_of(problem: Mapping[str, Any]) -> str:
    """A problem for people: a line for each wrong field, else its detail."""
    errors = problem.get("errors") or []
    lines = [f"{str(error.get('field', '')).removesuffix('.')} {_place(error)}{error.get('message', '')}".strip() for error in errors]
    return "\n".join([f"{problem.get('title', 'the API answered an error')}:", *lines]) if lines else str(problem.get("detail") or problem)


def _place(error: Mapping[str, Any]) -> str:
    return f"line {error['line']}, column {error['column']}: " if "line" in error and "column" in error else ""


def find_api(flag: str | None, folder: Path = Path()) -> str:
    """
    The address of the API: the flag (or LIVEHOOK_API), that of ``.livehook/ready.json`` if it answers, or the default.

    Raises:  Wrong: the flag is no address.
    """
    if flag:
        return _address(flag)
    try:
        ready = msgspec.json.decode((folder / READY_FILE).read_bytes())
        address = str(ready["api"])
        httpx.get(f"{address}/livez", timeout=PROBE_S_MAX, trust_env=False, verify=tls_for(address))
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, httpx.HTTPError, httpx.InvalidURL):
        return DEFAULT  # nothing runs in this folder
    return address


def _address(text: str) -> str:
    """An address as a user gives it. Raises Wrong: it cannot be one."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise Wrong(f"the address of the API is {text!r}, must be one such as {DEFAULT}")
    return text.rstrip("/")


def tls_for(address: str) -> ssl.SSLContext | bool:
    """How httpx verifies this address: reading every root of trust takes 50 ms, which plain http has no use for."""
    return True if address.startswith("https://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody


class Client:
    """
    One conversation with the API; a context manager.

    Args:  as_json: problems are told as JSON.
    """

    def __init__(self, api: str | None, *, config: Path | None = None, as_json: bool = False) -> None:
        try:
            token = load({}, environment=os.environ, config=config).api_token
        except BadSettings as error:
            raise Wrong(str(error)) from error
        headers = {"user-agent": f"livehook/{__version__}"} | ({} if token is None else {"authorization": f"Bearer {token}"})
        self.address = find_api(api)
        self._as_json = as_json
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT, trust_env=False, verify=tls_for(self.address))

    def call(
        self, method: str, path: str, body: Any = None, *, content: bytes | None = None, content_type: str = "application/json"
    ) -> Any:
        """
        The answer's JSON; None where there is none.

        Args:    path: percent-encoded. body: sent as JSON, unless ``content`` has the bytes.
        Raises:  Unreachable; ProblemAnswer.
        """
        data = content if content is not None else None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"content-type": content_type}
        try:
            answer = self._http.request(method, self.address + path, content=data, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            raise Unreachable(f"the API at {self.address} cannot be reached ({_why(error)}): start it, or give --api") from error
        if answer.is_success:
            return self._decoded(answer) if answer.content else None
        raise ProblemAnswer(self._problem(answer), as_json=self._as_json)

    def _decoded(self, answer: httpx.Response) -> Any:
        try:
            return msgspec.json.decode(answer.content)
        except msgspec.MsgspecError as error:
            raise Failed(f"{self.address} answered no JSON: it is no Livehook API") from error

    def _problem(self, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            problem = msgspec.json.decode(answer.content)
        except msgspec.MsgspecError:
            problem = None
        if not isinstance(problem, dict):
            return {"status": answer.status_code, "detail": f"{self.address} answered {answer.status_code}: it is no Livehook API"}
        return problem if "status" in problem else problem | {"status": answer.status_code}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
