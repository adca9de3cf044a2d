"""
A sender in front of the engine that adds access tokens: one for each client, fetched once for all lanes, renewed before it expires.

The token endpoint is called through the same engine, so that the same rules hold for where a call may lead. Put together by livehook/.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from connectors.webhook.calls import Failure, OAuthClient, Request, Response
from connectors.webhook.http import Sender
from connectors.webhook.oauth import Token, token_of, token_request
from connectors.webhook.starting import Call, Done, Failed, TaskCall, starter_of
from schemas.attempts import ErrorCode
from schemas.masking import MASK

CLIENTS_MAX = 1_024
FETCH_S_MAX = 15.0
# After a failure; meanwhile every call that needs the token fails the same way, instead of asking again.
AGAIN_S = 1.0
UNAUTHORIZED = 401


@dataclass(slots=True)
class _Held:
    """What is known of one client. ``quiet_until``: the token endpoint is not asked before; ``is_doubtful``: see Token."""

    token: Token | None = None
    failure: Failure | None = None
    quiet_until: float = 0.0
    is_doubtful: bool = False
    fetching: asyncio.Task[None] | None = None


class Tokens:
    """
    Access tokens.

    Args:  sender: what the token endpoint is called with. now: seconds of a clock that never goes back.
    """

    def __init__(self, sender: Sender, *, user_agent: str, now: Callable[[], float] = time.monotonic) -> None:
        self._sender = sender
        self._user_agent = user_agent
        self._now = now
        self._held: OrderedDict[OAuthClient, _Held] = OrderedDict()  # least recently used first

    async def get(self, client: OAuthClient, *, timeout_s: float) -> Token | Failure:
        """A token that is good for now. A token that is old enough is renewed behind it; nobody waits for that."""
        held, now = self._of(client), self._now()
        if held.token is not None and now < held.token.expires_at:
            if now >= held.token.renew_at and now >= held.quiet_until:
                self._fetch(client, held)
            return held.token
        held.token = None
        return await self._fetched(client, held, timeout_s)

    async def _fetched(self, client: OAuthClient, held: _Held, timeout_s: float) -> Token | Failure:
        if held.fetching is None and held.failure is not None and self._now() < held.quiet_until:
            return held.failure
        fetching = self._fetch(client, held)
        if not await _ended(fetching, timeout_s):
            return Failure(ErrorCode.AUTH, f"no access token from the token endpoint within {timeout_s:g} s")
        return held.token or held.failure or Failure(ErrorCode.AUTH, "no access token from the token endpoint: none was fetched")

    def refused(self, client: OAuthClient, token: Token) -> bool:
        """The receiver answered 401 to this token: it is given up, its successor is not; whether another one is worth a try."""
        held = self._of(client)
        if held.token is not token:
            return True  # somebody else has given it up
        if token.is_doubtful:
            return False
        held.token, held.is_doubtful = None, True
        return True

    async def close(self) -> None:
        """Abandon what is being fetched."""
        fetching = [held.fetching for held in self._held.values() if held.fetching is not None]
        for task in fetching:
            task.cancel()
        if fetching:
            await asyncio.wait(fetching)

    def _of(self, client: OAuthClient) -> _Held:
        held = self._held.setdefault(client, _Held())
        self._held.move_to_end(client)
        if len(self._held) > CLIENTS_MAX:
            oldest = next(iter(self._held))
            if self._held[oldest].fetching is None:  # else it goes the next time
                del self._held[oldest]
        return held

    def _fetch(self, client: OAuthClient, held: _Held) -> asyncio.Task[None]:
        """The one fetch that is under way, begun if there is none."""
        if held.fetching is None:
            held.fetching = asyncio.get_running_loop().create_task(self._renew(client, held), name="fetch an access token")
        return held.fetching

    async def _renew(self, client: OAuthClient, held: _Held) -> None:
        asked_at = self._now()
        try:
            result = await self._sender.send(token_request(client, self._user_agent), timeout_s=FETCH_S_MAX)
        finally:
            held.fetching = None
        found = token_of(result, asked_at=asked_at)
        if isinstance(found, Failure):
            held.failure, held.quiet_until = found, self._now() + AGAIN_S
            return
        found.is_doubtful, held.is_doubtful = held.is_doubtful, False
        held.token, held.failure = found, None


class AuthorizingSender:
    """A sender that adds the access token of requests that need one, and passes all others on as they are."""

    def __init__(self, sender: Sender, *, user_agent: str, now: Callable[[], float] = time.monotonic) -> None:
        self._sender, self._starter = sender, starter_of(sender)
        self._tokens = Tokens(sender, user_agent=user_agent, now=now)
        self._now = now

    def start(self, request: Request, *, timeout_s: float, done: Done, failed: Failed) -> Call:
        """See :class:`starting.Starter`."""
        if request.oauth is None or request.refusal is not None:
            return self._starter.start(request, timeout_s=timeout_s, done=done, failed=failed)
        return TaskCall(partial(self._authorized, request, request.oauth, timeout_s), done, failed)

    def send(self, request: Request, *, timeout_s: float) -> Coroutine[Any, Any, Response | Failure]:
        """See :class:`Sender`; the time for a token counts too."""
        if request.oauth is None or request.refusal is not None:
            return self._sender.send(request, timeout_s=timeout_s)
        return self._authorized(request, request.oauth, timeout_s)

    async def close(self) -> None:
        """See :class:`Sender`."""
        await self._tokens.close()
        await self._sender.close()

    async def _authorized(self, request: Request, client: OAuthClient, timeout_s: float) -> Response | Failure:
        """With a token; once more with a new one when the receiver does not take it any more: 401 says that nothing was done."""
        due = self._now() + timeout_s
        token = await self._tokens.get(client, timeout_s=timeout_s)
        if isinstance(token, Failure):
            return token
        result = await self._send(request, token, due - self._now())
        if not _is_unauthorized(result):
            token.is_doubtful = False
            return result
        left_s = due - self._now()
        if left_s <= 0 or not self._tokens.refused(client, token):
            return result
        renewed = await self._tokens.get(client, timeout_s=left_s)
        if isinstance(renewed, Failure) or (left_s := due - self._now()) <= 0:
            return result
        result = await self._send(request, renewed, left_s)
        renewed.is_doubtful = renewed.is_doubtful and _is_unauthorized(result)
        return result

    async def _send(self, request: Request, token: Token, timeout_s: float) -> Response | Failure:
        """With this token, which no answer shows: attempts keep answers, and know nothing of tokens."""
        authorized = msgspec.structs.replace(request, oauth=None).with_header("authorization", f"Bearer {token.value}")
        result = await self._sender.send(authorized, timeout_s=timeout_s)
        if isinstance(result, Failure):
            return result
        shown = tuple((name, value.replace(token.value, MASK)) for name, value in result.headers)
        return msgspec.structs.replace(result, headers=shown, body=result.body.replace(token.value.encode(), MASK.encode()))


def _is_unauthorized(result: Response | Failure) -> bool:
    return isinstance(result, Response) and result.status == UNAUTHORIZED


async def _ended(task: asyncio.Task[None], timeout_s: float) -> bool:
    """Whether it ended in time; it goes on in any case, others may wait for it too."""
    done, _ = await asyncio.wait([task], timeout=timeout_s)
    for one in done:
        if not one.cancelled() and (error := one.exception()) is not None:
            raise error
    return bool(done)
