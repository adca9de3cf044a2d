"""Rules of ``webhook test``: one call, marked as a test, whatever the webhook's state."""

import json
import random

import pytest

from connectors.webhook.calls import Failure, Request, Response
from connectors.webhook.trial import send_test
from schemas.attempts import ErrorCode, Outcome
from schemas.signing import new_secret
from schemas.webhooks import Secret, State, WebhookRevision, WebhookSpec


class Scripted:
    """A sender that answers the same to all."""

    def __init__(self, result: Response | Failure) -> None:
        self.result = result
        self.requests: list[Request] = []

    async def send(self, request: Request, *, timeout_s: float) -> Response | Failure:
        self.requests.append(request)
        return self.result

    async def close(self) -> None:
        return None


def webhook(**spec) -> WebhookRevision:
    fields = {"name": "adults", "url": "https://example.com/", "collections": ("people",), "state": State.PAUSED}
    return WebhookRevision("uid", "adults", 1, 1, WebhookSpec(**(fields | spec)), [Secret(new_secret())], 0, 0)


async def sent(doc, old=None, result=None, **spec):
    sender = Scripted(result or Response(200))
    attempt = await send_test(webhook(**spec), doc, old, sender=sender, user_agent="livehook/1", rng=random.Random(1))
    (request,) = sender.requests
    return attempt, request


@pytest.mark.parametrize(
    ("doc", "old", "match", "change"),
    [
        ({"_id": "a", "n": 1}, None, "create", {"method": "upsert", "oldValue": None, "newValue": {"_id": "a", "n": 1}}),
        ({"_id": "a"}, {"_id": "a", "n": 1}, "update", {"method": "upsert", "oldValue": {"_id": "a", "n": 1}, "newValue": {"_id": "a"}}),
        (None, {"_id": "a"}, "remove", {"method": "remove", "value": {"_id": "a"}}),
    ],
)
async def test_it_looks_like_the_change_from_old_to_doc(doc, old, match, change):
    """Body and headers are those of a delivery, marked as a test and without a place in the lane."""
    attempt, request = await sent(doc, old)
    headers = dict(request.headers)
    body = json.loads(request.body)
    assert (match, change, "people") == (body["match"], body["change"], body["collection"])
    assert ("true", "1", "people/a", False) == (
        headers["livehook-test"], headers["livehook-attempt"], headers["livehook-document"], "livehook-offset" in headers,
    )  # fmt: skip
    assert (True, "", Outcome.DELIVERED) == (attempt.test, attempt.offset, attempt.outcome)


async def test_a_failure_is_the_end_of_it():
    """Nothing is tried again, so the outcome is dead; the reason is told."""
    attempt, _ = await sent({"_id": "a"}, result=Failure(ErrorCode.CONNECT, "refused"))
    assert (Outcome.DEAD, None, ErrorCode.CONNECT) == (attempt.outcome, attempt.next_attempt_us, attempt.error and attempt.error.code)


async def test_gone_is_a_failure_like_any_other():
    """410 disables a webhook when a delivery meets it; a test has no consequences, and is not sent again."""
    attempt, _ = await sent({"_id": "a"}, result=Response(410))
    assert (Outcome.DEAD, None, ErrorCode.STATUS) == (attempt.outcome, attempt.next_attempt_us, attempt.error and attempt.error.code)


async def test_no_two_tests_have_the_same_id():
    """A receiver that drops ids that it has seen takes every test for a new delivery."""
    sender = Scripted(Response(200))
    rng = random.Random(1)
    for _ in range(3):
        await send_test(webhook(), {"_id": "a"}, None, sender=sender, user_agent="livehook/1", rng=rng)
    assert 3 == len({dict(request.headers)["webhook-id"] for request in sender.requests})


async def test_a_webhook_of_all_collections_is_tested_with_a_made_up_one():
    """``*`` names no collection; an object id stands as in keys."""
    _, request = await sent({"_id": {"b": 1, "a": 2}}, collections=("*",))
    assert 'test/{"a":2,"b":1}' == dict(request.headers)["livehook-document"]
