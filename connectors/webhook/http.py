"""
The seam to the network: one call out, one typed outcome back. Whatever goes wrong on the way is an outcome, never an exception.

In: a prepared request. Out: the answer, or why there is none. Called by runner.py and trial.py. Foreign errors are mapped by the engines
and nowhere else::

    code       when
    dns        the name has no address
    connect    no connection: refused, unreachable
    tls        no trusted connection
    timeout    no whole answer in time
    reset      the connection ended before the whole answer was there
    protocol   what came is no HTTP
    too-large  the head of the answer is too large
    egress     where it leads may not be called
    template   the request itself cannot be sent

Every engine passes tests/contract/test_sender.py: ``http1.py``, and ``http_httpx.py`` for calls through a proxy; engines.py chooses.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from connectors.webhook.calls import Failure, Request, Response

READ_BYTES_MAX = 64 * 1024
# Below the five seconds after which common servers close: a request that meets a close is a lost attempt.
IDLE_S_MAX = 4.0
DETAIL_CHARS_MAX = 200


class Sender(Protocol):
    """
    Makes one call.

    Guarantees:  never longer than ``timeout_s``, the whole call counted; no redirect is followed; no cookie is kept; of the answer's body
                 at most BODY_BYTES_MAX are kept and, beyond READ_BYTES_MAX, the connection is dropped instead of read. A cancelled call
                 leaves no connection behind. A body is kept as it came and never unpacked: a gzip bomb stays as small as it was sent.
    """

    def send(self, request: Request, *, timeout_s: float) -> Coroutine[Any, Any, Response | Failure]:
        """Send it once and wait for the whole answer."""
        ...

    async def close(self) -> None:
        """Close the connections that are idle; no call may be under way."""
        ...


def text_of(error: Any) -> str:
    """What an error says, for a person; its class where it says nothing."""
    return (str(error) or type(error).__name__)[:DETAIL_CHARS_MAX]
