"""Rules of OAuth 2.0 client credentials: what is asked, what an answer means, and when a token is fetched."""

import asyncio
import json
from collections.abc import Callable

import pytest

from connectors.webhook.calls import Failure, OAuthClient, Request, Response, request_of
from connectors.webhook.oauth import Token, token_of, token_request
from connectors.webhook.tokens import AGAIN_S, CLIENTS_MAX, AuthorizingSender, Tokens
from schemas.attempts import ErrorCode

CLIENT = OAuthClient("https://auth.example.com/token", "id:1", "s3cret/+", "read write")
GOOD = {"access_token": "t0k", "token_type": "Bearer", "expires_in": 100}


def answer(body: object, status: int = 200) -> Response:
    return Response(status, (), body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_request_for_a_token():
    """As RFC 6749 has it: the credentials form-encoded, then Basic; the grant in the body."""
    request = token_request(CLIENT, "livehook/1")
    headers = dict(request.headers)
    assert ("POST", CLIENT.token_url) == (request.method, request.url)
    assert b"grant_type=client_credentials&scope=read+write" == request.body
    assert "Basic aWQlM0ExOnMzY3JldCUyRiUyQg==" == headers["authorization"]
    assert "application/x-www-form-urlencoded" == headers["content-type"]


@pytest.mark.parametrize(
    ("expires_in", "renewed", "expired"),
    [(100, 80, 95), ("3600", 3540, 3595), (None, 240, 295), (10, 8, 9), (10**12, 86_340, 86_395), (True, 240, 295), (0.5, 0.4, 0.45)],
)
def test_a_token_is_renewed_ahead_of_its_end(expires_in, renewed, expired):
    """A fifth of its life before it ends, at most a minute; it is not used in the last tenth, at most five seconds."""
    found = token_of(answer(GOOD | {"expires_in": expires_in}), asked_at=1_000)
    assert Token("t0k", 1_000 + renewed, 1_000 + expired) == found


@pytest.mark.parametrize(
    ("result", "detail"),
    [
        (Failure(ErrorCode.EGRESS, "the target is refused"), "egress: the target is refused"),
        (answer({"error": "invalid_client", "hint": "s3cret"}, 401), "status 401, invalid_client"),
        (answer({"error": "s3cret"}, 400), "status 400"),
        (answer(b"<html>", 503), "status 503"),
        (answer({}, 302), "status 302"),
        (answer([]), "the answer has no access_token that could be sent"),
        (answer(b"\xff"), "the answer has no access_token that could be sent"),
        (answer(GOOD | {"access_token": "a\r\nx: y"}), "the answer has no access_token that could be sent"),
        (answer(GOOD | {"access_token": 5}), "the answer has no access_token that could be sent"),
        (answer(GOOD | {"token_type": "mac"}), "the answer has no token_type Bearer"),
        (answer(GOOD | {"expires_in": 0}), "the answer has a token that has expired already"),
    ],
)
def test_no_token(result, detail):
    """Always the code auth, with a reason that shows nothing of what came but the error codes of RFC 6749."""
    assert Failure(ErrorCode.AUTH, f"no access token from the token endpoint: {detail}") == token_of(result, asked_at=0)


def test_nothing_secret_shows_in_a_repr():
    """Of a client, of a token, of a request that carries one."""
    token = token_of(answer(GOOD), asked_at=0)
    assert "s3cret" not in repr(CLIENT) + repr(token_request(CLIENT, "x"))
    assert "t0k" not in repr(token)


class Network:
    """A token endpoint and a receiver, on a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fetches = 0
        self.bearers: list[str] = []
        self.token_endpoint: Callable[[], Response | Failure] = lambda: answer(GOOD | {"access_token": f"t{self.fetches}"})
        self.receiver: Callable[[str], int] = lambda token: 200
        self.open = asyncio.Event()
        self.open.set()
        self.sender = AuthorizingSender(self, user_agent="livehook/1", now=lambda: self.now)

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        assert timeout_s > 0
        await self.open.wait()
        if request.url == CLIENT.token_url:
            self.fetches += 1
            return self.token_endpoint()
        token = dict(request.headers).get("authorization", "").removeprefix("Bearer ")
        self.bearers.append(token)
        return Response(self.receiver(token))

    async def close(self) -> None:
        return None

    async def call(self, client: OAuthClient | None = CLIENT, timeout_s: float = 5.0) -> int | str:
        """The status, or what failed."""
        request = request_of("POST", "https://example.com/", (), b"{}", oauth=client)
        result = await self.sender.send(request, timeout_s=timeout_s)
        return result.status if isinstance(result, Response) else result.detail

    async def settle(self) -> None:
        """Until whatever was started in the background has ended."""
        while len(tasks := asyncio.all_tasks()) > 1:
            await asyncio.wait(tasks - {asyncio.current_task()})


@pytest.fixture
def network() -> Network:
    return Network()


async def test_one_fetch_for_all_who_wait(network):
    """However many calls need the token at once."""
    network.open.clear()
    calls = [asyncio.create_task(network.call()) for _ in range(50)]
    await asyncio.sleep(0)
    network.open.set()
    assert ([200] * 50, 1) == (await asyncio.gather(*calls), network.fetches)
    assert {"t1"} == set(network.bearers)


async def test_a_call_without_a_client_has_no_token(network):
    """It goes to the engine as it is."""
    assert (200, 0, [""]) == (await network.call(None), network.fetches, network.bearers)


async def test_an_old_token_is_renewed_behind_the_call(network):
    """Nobody waits: the call takes the token that there is, the next one the new."""
    await network.call()
    network.now = 80.0
    await network.call()
    await network.settle()
    await network.call()
    assert ["t1", "t1", "t2"] == network.bearers


async def test_an_expired_token_is_never_sent(network):
    """Not even when there is no other: then the call fails with auth."""
    await network.call()
    network.now = 95.0
    network.token_endpoint = lambda: answer(b"", 500)
    assert "no access token from the token endpoint: status 500" == await network.call()
    assert ["t1"] == network.bearers


async def test_a_failing_token_endpoint_is_asked_once_a_second(network):
    """All calls of that second fail the same way."""
    network.token_endpoint = lambda: answer(b"", 500)
    assert 1 == len({await network.call() for _ in range(10)})
    assert 1 == network.fetches
    network.now += AGAIN_S
    network.token_endpoint = lambda: answer(GOOD)
    assert (200, 2) == (await network.call(), network.fetches)


async def test_renewing_that_fails_leaves_the_token_that_is_good(network):
    """Until it expires; meanwhile it is tried once a second."""
    await network.call()
    network.now, network.token_endpoint = 80.0, lambda: answer(b"", 500)
    assert [200] * 5 == [await network.call() for _ in range(5)]
    await network.settle()
    assert [200] * 5 == [await network.call() for _ in range(5)]
    await network.settle()
    assert 2 == network.fetches


async def test_a_token_that_is_refused_is_renewed_once_and_the_call_repeated(network):
    """401 says that nothing was done; so no attempt is lost when tokens are revoked."""
    await network.call()
    network.receiver = lambda token: 401 if token == "t1" else 200
    assert [200] * 20 == await asyncio.gather(*[network.call() for _ in range(20)])
    assert 2 == network.fetches


async def test_a_receiver_that_refuses_every_token_is_believed(network):
    """The second 401 is the outcome, and the token endpoint is left alone until that token ends."""
    network.receiver = lambda token: 401
    assert [401] * 10 == [await network.call() for _ in range(10)]
    assert (2, 11) == (network.fetches, len(network.bearers))


async def test_a_token_that_was_accepted_may_be_refused_again(network):
    """Each revocation gets its new token."""
    good = {"t1"}
    network.receiver = lambda token: 200 if token in good else 401
    for fetched in ("t1", "t2", "t3"):
        good.clear()
        good.add(fetched)
        assert 200 == await network.call()
    assert 3 == network.fetches


async def test_waiting_for_a_token_counts_to_the_call(network):
    """It ends in time, the fetch goes on for the others."""
    network.open.clear()
    assert "no access token from the token endpoint within 0.01 s" == await network.call(timeout_s=0.01)
    network.open.set()
    assert (200, 1) == (await network.call(), network.fetches)


async def test_what_is_kept_is_bounded(network):
    """The client that was not used for longest is forgotten."""
    tokens = Tokens(network, user_agent="x", now=lambda: 0.0)
    clients = [OAuthClient(CLIENT.token_url, str(number), "s") for number in range(CLIENTS_MAX + 1)]
    for client in [*clients, clients[-1], clients[0]]:
        await tokens.get(client, timeout_s=1)
    assert CLIENTS_MAX + 2 == network.fetches


async def test_closing_abandons_the_fetch(network):
    """No task is left, and who waits is told."""
    network.open.clear()
    call = asyncio.create_task(network.call())
    await asyncio.sleep(0)
    await network.sender.close()
    assert "no access token from the token endpoint: none was fetched" == await call
