"""Every kind of credentials against a real server on this machine: nothing is lost while tokens and secrets change under load."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import parse_qs

import pytest
import standardwebhooks
import trustme

from connectors.webhook.calls import Failure, Request, Response, request_of
from connectors.webhook.http import Sender
from connectors.webhook.http_httpx import HttpxSender
from connectors.webhook.render import endpoint_of, prepare
from connectors.webhook.testing import Answer, Call, Receiver, sender_here
from connectors.webhook.tls import trusted
from connectors.webhook.tokens import AuthorizingSender
from schemas.attempts import ErrorCode
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.signing import new_secret
from schemas.webhooks import Secret, WebhookRevision, WebhookSpec

SENDERS: dict[str, Callable[..., Sender]] = {"http1": sender_here, "httpx": HttpxSender}
TRUST = trusted()
AUTHORITY = trustme.CA()
SECRET = new_secret()


@pytest.fixture(params=SENDERS)
async def sender(request) -> AsyncIterator[Sender]:
    found = AuthorizingSender(SENDERS[request.param](tls=TRUST), user_agent="livehook/1")
    yield found
    await found.close()


def prepared(url: str, auth: Mapping[str, object] | None = None, secrets: list[Secret] | None = None, number: int = 1) -> Request:
    """The request of one delivery."""
    spec = WebhookSpec("adults", url, ("people",), auth=dict(auth or {}))
    revision = WebhookRevision("uid", "adults", 1, 1, spec, secrets or [Secret(SECRET)], 0, 0)
    change = Change("people", "a", number, number, None, b'{"_id":"a"}', Origin(0, 0, number), 1)
    endpoint = endpoint_of(revision, user_agent="livehook/1")
    return prepare(Delivery("uid", 1, Match.CREATE, change), endpoint, offset="0", attempt=1, now=time.time())


async def statuses(sender: Sender, request: Request, count: int, *, at_a_time: int = 20) -> list[int | str]:
    """What came of so many calls."""
    gate = asyncio.Semaphore(at_a_time)

    async def one() -> int | str:
        async with gate:
            result = await sender.send(request, timeout_s=10)
        return result.status if isinstance(result, Response) else result.detail

    return list(await asyncio.gather(*[one() for _ in range(count)]))


class Guarded:
    """A token endpoint at ``/token``, and a receiver that takes only tokens of it that have not ended and were not revoked."""

    def __init__(self, *, lifetime_s: float) -> None:
        self.lifetime_s = lifetime_s
        self.good: dict[str, float] = {}
        self.fetches = self.refused = 0

    def answer(self, call: Call) -> Answer:
        return self._token(call) if call.target == "/token" else self._taken(call)

    def _token(self, call: Call) -> Answer:
        assert {"grant_type": ["client_credentials"], "scope": ["write"]} == parse_qs(call.body.decode())
        assert b"id:s3cret" == base64.b64decode((call.header("authorization") or "").removeprefix("Basic "))
        self.fetches += 1
        token = f"token-{self.fetches}"
        self.good[token] = call.at + self.lifetime_s
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}
        return Answer(body=json.dumps(body).encode(), delay_s=0.02)

    def _taken(self, call: Call) -> Answer:
        token = (call.header("authorization") or "").removeprefix("Bearer ")
        if self.good.get(token, 0) > call.at:
            return Answer()
        self.refused += 1
        return Answer(401)

    def auth(self, url: str) -> dict[str, object]:
        return {"oauth2": {"tokenUrl": f"{url}/token", "clientId": "id", "clientSecret": "s3cret", "scope": "write"}}


async def test_basic_and_bearer(sender):
    """They come as they are."""
    async with Receiver() as receiver:
        for auth in ({"basic": {"username": "u", "password": "p"}}, {"bearer": {"token": "t0k"}}):
            await sender.send(prepared(receiver.url, auth), timeout_s=5)
        assert ["Basic dTpw", "Bearer t0k"] == [call.header("authorization") for call in receiver.calls]


async def test_tokens_that_end_under_load_lose_nothing(sender):
    """Each is renewed ahead of its end: no call meets an expired one, however many pass, and none waits for another."""
    guarded = Guarded(lifetime_s=2.0)
    async with Receiver(guarded.answer) as receiver:
        request = prepared(f"{receiver.url}/hook", guarded.auth(receiver.url))
        found = []
        while guarded.fetches < 3:
            found += await statuses(sender, request, 20)
    assert ({200}, 0) == (set(found), guarded.refused)


async def test_tokens_that_are_revoked_under_load_lose_nothing(sender):
    """A call that meets 401 is repeated with a new token; all lanes share its one fetch."""
    guarded = Guarded(lifetime_s=3_600)
    async with Receiver(guarded.answer) as receiver:
        request = prepared(f"{receiver.url}/hook", guarded.auth(receiver.url))
        for _ in range(4):
            assert [200] * 100 == await statuses(sender, request, 100)
            guarded.good.clear()
    assert 4 == guarded.fetches


async def test_a_token_endpoint_that_is_away(sender):
    """The attempt fails with the code auth, and is the schedule's."""
    async with Receiver(lambda call: Answer(503)) as receiver:
        result = await sender.send(prepared(f"{receiver.url}/hook", Guarded(lifetime_s=1).auth(receiver.url)), timeout_s=5)
        assert ["/token"] == [call.target for call in receiver.calls]
    assert Failure(ErrorCode.AUTH, "no access token from the token endpoint: status 503") == result


async def test_secrets_that_rotate_under_load_lose_nothing(sender):
    """A receiver that knows the old secret and one that knows the new accept every call, whichever came first."""
    old, new = SECRET, new_secret()
    until_us = int((time.time() + 3_600) * 1_000_000)
    known = [old]

    def verify(call: Call) -> Answer:
        for secret in known:
            standardwebhooks.Webhook(secret).verify(call.body, call.headers)
        return Answer()

    async with Receiver(verify) as receiver:
        assert {200} == set(await statuses(sender, prepared(receiver.url), 50))
        rotating = prepared(receiver.url, secrets=[Secret(new), Secret(old, until_us)])
        known.append(new)
        assert {200} == set(await statuses(sender, rotating, 50))
        known.remove(old)
        assert {200} == set(await statuses(sender, prepared(receiver.url, secrets=[Secret(new)]), 50))


def server_tls(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """A server that asks for a certificate of the authority."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(found)
    authority.configure_trust(found)
    found.verify_mode = ssl.CERT_REQUIRED
    return found


def mtls(issuer: trustme.CA = AUTHORITY, ca: trustme.CA = AUTHORITY) -> dict[str, object]:
    """A certificate for us, and whom we trust."""
    issued = issuer.issue_cert("livehook@example.com")
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    return {"mtls": {"cert": chain, "key": issued.private_key_pem.bytes().decode(), "ca": ca.cert_pem.bytes().decode()}}


async def test_a_client_certificate_is_shown(sender):
    """The receiver takes calls of those it knows; an edit to a new certificate of the same authority loses none."""
    async with Receiver(tls=server_tls()) as receiver:
        assert receiver.url.startswith("https://")
        assert {200} == set(await statuses(sender, prepared(receiver.url, mtls()), 50))
        assert {200} == set(await statuses(sender, prepared(receiver.url, mtls()), 50))
        assert 100 == receiver.count


async def test_a_certificate_may_go_with_other_credentials(sender):
    """One is of the connection, the other of the request."""
    async with Receiver(tls=server_tls()) as receiver:
        await sender.send(prepared(receiver.url, mtls() | {"bearer": {"token": "t0k"}}), timeout_s=5)
        assert ["Bearer t0k"] == [call.header("authorization") for call in receiver.calls]


async def test_a_certificate_of_another_authority_is_refused(sender):
    """By the receiver; and ours refuses a receiver that its own authority did not certify. Neither gets a request."""
    stranger = trustme.CA()
    async with Receiver(tls=server_tls()) as receiver:
        refused = await sender.send(prepared(receiver.url, mtls(issuer=stranger)), timeout_s=5)
        untrusted = await sender.send(prepared(receiver.url, mtls(ca=stranger)), timeout_s=5)
        assert 0 == receiver.count
    assert isinstance(refused, Failure)
    assert refused.code in (ErrorCode.TLS, ErrorCode.RESET)  # TLS 1.3: the refusal comes after our handshake
    assert isinstance(untrusted, Failure)
    assert ErrorCode.TLS is untrusted.code


async def test_no_connection_is_shared_between_identities(sender):
    """A call without the certificate, or with another one, never goes over a connection that was made with it."""
    async with Receiver(tls=server_tls()) as receiver:
        assert isinstance(await sender.send(prepared(receiver.url, mtls()), timeout_s=5), Response)
        assert isinstance(await sender.send(prepared(receiver.url), timeout_s=5), Failure)
        assert isinstance(await sender.send(prepared(receiver.url, mtls()), timeout_s=5), Response)
        assert 2 == len(receiver.open)


async def test_a_request_that_could_not_be_made_is_not_sent(sender):
    """Whatever else it holds; the reason is the outcome."""
    async with Receiver() as receiver:
        refused = request_of("POST", receiver.url, (), b"", refusal="the template gives no JSON")
        assert Failure(ErrorCode.TEMPLATE, "the template gives no JSON") == await sender.send(refused, timeout_s=5)
        assert 0 == receiver.count
