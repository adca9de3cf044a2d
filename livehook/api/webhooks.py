"""The endpoints ``/v1/webhooks``. What is written, and when, is in ``register.py``; what is right, in ``schemas/webhook_validation.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from livehook.api import bodies, openapi
from livehook.api.differences import differences
from livehook.api.parameters import flag, name_in_path, page
from livehook.api.ports import TestCall
from livehook.api.problems import Problem, invalid, invalid_field
from livehook.api.register import Register, Written
from schemas.attempt_json import attempt_json
from schemas.errors import FieldError, Invalid
from schemas.keys import BadKey, id_text
from schemas.masking import keep_masked
from schemas.merge_patch import merge_patch
from schemas.mutations import DOCUMENT_BYTES_MAX
from schemas.reader import Reader
from schemas.registry import Webhook
from schemas.starts import TXN_MAX
from schemas.strict_json import encode
from schemas.webhook_checks import Checks
from schemas.webhook_json import revision_json, webhook_json
from schemas.webhook_validation import Wanted, parse_webhook, read_secret
from schemas.webhooks import SELECTING, State

OVERLAP_S_MAX = 30 * 86_400


class Webhooks:
    """The endpoints."""

    def __init__(self, register: Register, checks: Checks, test_call: TestCall, now_us: Callable[[], int]) -> None:
        self._register = register
        self._checks = checks
        self._test_call = test_call
        self._now_us = now_us

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["Webhooks"])
        one = "/v1/webhooks/{name}"
        router.add_api_route("/v1/webhooks", self.list, methods=["GET"], **openapi.LIST_WEBHOOKS)
        router.add_api_route(one, self.get, methods=["GET"], **openapi.GET_WEBHOOK)
        router.add_api_route(one, self.put, methods=["PUT"], **openapi.PUT_WEBHOOK)
        router.add_api_route(one, self.patch, methods=["PATCH"], **openapi.PATCH_WEBHOOK)
        router.add_api_route(one, self.delete, methods=["DELETE"], status_code=204, **openapi.DELETE_WEBHOOK)
        router.add_api_route(f"{one}/test", self.test, methods=["POST"], **openapi.TEST_WEBHOOK)
        router.add_api_route(f"{one}/pause", self.pause, methods=["POST"], **openapi.PAUSE_WEBHOOK)
        router.add_api_route(f"{one}/resume", self.resume, methods=["POST"], **openapi.RESUME_WEBHOOK)
        router.add_api_route(f"{one}/rotate-secret", self.rotate_secret, methods=["POST"], **openapi.ROTATE_SECRET)
        return router

    async def list(self, request: Request) -> Response:
        """The webhooks, by name."""
        size, after = page(request)
        found = self._register.page(after, size + 1)
        next_cursor = found[size - 1].current.name if len(found) > size else None
        return bodies.json_response({"items": list(map(webhook_json, found[:size])), "nextCursor": next_cursor})

    async def get(self, request: Request) -> Response:
        """One webhook."""
        return bodies.json_response(webhook_json(self._register.get(name_in_path(request))))

    async def put(self, request: Request) -> Response:
        """Make a webhook, or put it in place of the one of this name."""
        name = name_in_path(request)
        data = await bodies.read_json(request)

        def decide(present: Webhook | None) -> Wanted:
            return self._wanted(name, _kept(data, present), present)

        if flag(request, "dryRun"):
            return self._dry_run(name, decide)
        return _answer(await self._register.write(name, decide))

    async def patch(self, request: Request) -> Response:
        """Change fields of a webhook: a JSON merge patch."""
        name = name_in_path(request)
        patch = await bodies.read_json(request, accepted=bodies.PATCH_TYPES)
        if not isinstance(patch, dict):
            raise invalid_field("", "a patch must be an object")

        def decide(_: Webhook | None) -> Wanted:
            present = self._register.get(name)
            return self._wanted(name, _kept(patched(present, patch), present), present)

        return _answer(await self._register.write(name, decide))

    async def delete(self, request: Request) -> Response:
        """Delete a webhook and its lane."""
        await self._register.delete(name_in_path(request))
        return Response(status_code=204)

    async def test(self, request: Request) -> Response:
        """One attempt now, outside the lane."""
        revision = self._register.get(name_in_path(request)).current
        doc, old = _test_documents(await bodies.read_json(request, empty={}))
        return bodies.json_response(attempt_json(await self._test_call(revision, doc, old)))

    async def pause(self, request: Request) -> Response:
        """Deliver nothing until it is resumed."""
        return bodies.json_response(webhook_json(await self._register.set_state(name_in_path(request), State.PAUSED)))

    async def resume(self, request: Request) -> Response:
        """Make it active again."""
        return bodies.json_response(webhook_json(await self._register.set_state(name_in_path(request), State.ACTIVE)))

    async def rotate_secret(self, request: Request) -> Response:
        """Sign with a new secret, for a while with the present ones too."""
        name = name_in_path(request)
        scheme = self._register.get(name).current.spec.signing
        secret, overlap_s = _rotation(await bodies.read_json(request, empty={}), scheme)
        webhook = await self._register.rotate_secret(name, secret, overlap_s)
        return bodies.json_response(webhook_json(webhook, show_secret=True))

    def _wanted(self, name: str, data: Any, present: Webhook | None) -> Wanted:
        try:
            return parse_webhook(
                data,
                name=name,
                checks=self._checks,
                disabled=present is not None and present.state is State.DISABLED,
                now_us=self._now_us() if present is None else TXN_MAX,  # later its start is as it was
            )
        except Invalid as error:
            raise invalid(error, "Invalid webhook") from error

    def _dry_run(self, name: str, decide: Callable[[Webhook | None], Wanted]) -> Response:
        try:
            present = self._register.get(name)
        except Problem:
            present = None
        return bodies.json_response(differences(present, decide(present)))


def patched(present: Webhook, patch: Mapping[str, Any]) -> Any:
    """
    The webhook with a merge patch applied.

    A patch that names triggers takes the five fields beside them away, and the other way round: an answer has one or the other, so nobody
    could know what to set to null. So it is with a template and another format.
    """
    target = revision_json(present.current) | {"state": present.state.value}
    payload = patch.get("payload")
    if isinstance(payload, dict) and (payload.get("template") or payload.get("format")):
        target["payload"] = {name: value for name, value in target["payload"].items() if name == "contentType"}
    gone: set[str] = set()
    if patch.get("triggers"):
        gone |= {*SELECTING} - {"triggers"}
    elif any(patch.get(name) for name in (*SELECTING, "collection")):
        gone.add("triggers")
    if patch.get("collection"):
        gone.add("collections")
    return merge_patch({name: value for name, value in target.items() if name not in gone}, dict(patch))


def _kept(data: Any, present: Webhook | None) -> Any:
    if present is None or not isinstance(data, dict):
        return data
    kept = keep_masked(data, revision_json(present.current))
    if kept.get("secret") == present.current.secrets[0].value:
        del kept["secret"]  # kept anyway, unless the scheme of signing changes
    return {**kept, "start": present.current.spec.start}  # read when the webhook is made, later ignored


def _answer(written: Written) -> Response:
    return bodies.json_response(webhook_json(written.webhook, show_secret=written.is_secret_new), 201 if written.is_new else 200)


def _rotation(data: Any, scheme: str) -> tuple[str | None, int]:
    errors: list[FieldError] = []
    reader = Reader(data, "", errors)
    secret = reader.checked("secret", lambda value: read_secret(value, scheme))
    overlap_s = reader.whole("overlapSeconds", 86_400, 0, OVERLAP_S_MAX)
    reader.end()
    if errors:
        raise Invalid(errors)
    return secret, overlap_s


def _test_documents(data: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    errors: list[FieldError] = []
    reader = Reader(data, "", errors)
    doc = reader.object("doc") if "doc" in reader else {"_id": "test"}
    old = reader.object("old") if "old" in reader else None
    reader.raw("doc"), reader.raw("old")
    reader.end()
    doc.setdefault("_id", "test")
    errors += _document_errors("doc", doc)
    if old is not None:
        errors += _document_errors("old", old | {"_id": doc["_id"]})
    if errors:
        raise Invalid(errors)
    return doc, None if old is None else old | {"_id": doc["_id"]}


def _document_errors(name: str, document: dict[str, Any]) -> list[FieldError]:
    try:
        id_text(document["_id"])
    except BadKey as error:
        return [FieldError(f"{name}._id", str(error))]
    if len(encode(document)) > DOCUMENT_BYTES_MAX:
        return [FieldError(name, f"has more than {DOCUMENT_BYTES_MAX:,} bytes")]
    return []
