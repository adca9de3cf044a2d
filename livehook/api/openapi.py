"""
What the OpenAPI document says of each endpoint, and ``/docs``: a page made from it that needs no network and runs no script.

The bodies are read by hand (they are checked more strictly than a framework would), so they are described by hand here.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

import msgspec

from livehook.api.problems import CODES, MEDIA_TYPE
from schemas.webhooks import WebhookSpec

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"enum": list(CODES)},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "description": "dotted; for an array it begins with [3]."},
                    "message": {"type": "string"},
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                    "expected": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}
_ID = {"oneOf": [{"type": "string"}, {"type": "object"}]}
_DOCUMENT = {"type": "object", "properties": {"_id": _ID}, "additionalProperties": True}
_ACCEPTED = {"type": "object", "properties": {"accepted": {"type": "integer"}, "ids": {"type": "array", "items": _ID}}}
_OBJECT = {"type": "object"}
_WANTED = {"$ref": "#/components/schemas/WebhookSpec"}
_TIME = {"type": "string", "format": "date-time"}
_WEBHOOK = {
    "allOf": [
        _WANTED,
        {
            "type": "object",
            "properties": {
                "secret": {"type": "string", "description": "**** but in the answer that made it"},
                "publicKey": {"type": "string", "description": "with signing v1a"},
                "reason": {"type": ["string", "null"], "description": "of disabled"},
                "createdAt": _TIME,
                "updatedAt": _TIME,
            },
        },
    ]
}


def _endpoint(
    answer: dict[str, Any] | None,
    *codes: str,
    body: dict[str, Any] | None = None,
    types: tuple[str, ...] = ("application/json",),
    status: int | tuple[int, ...] = 200,
    body_required: bool = True,
) -> dict[str, Any]:
    """The keyword arguments of ``add_api_route`` that describe an endpoint: answer, problems, body."""
    statuses = (status,) if isinstance(status, int) else status
    described = {code: {"application/json": {"schema": answer}} for code in statuses if answer is not None}
    responses: dict[int | str, dict[str, Any]] = {code: {"content": content, "description": "done"} for code, content in described.items()}
    for code in codes:
        number, title = CODES[code]
        responses[number] = {"content": {MEDIA_TYPE: {"schema": _PROBLEM}}, "description": f"`{code}`: {title.lower()}"}
    extra = {} if body is None else {"requestBody": {"required": body_required, "content": {kind: {"schema": body} for kind in types}}}
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


_BODY = ("malformed", "too-large", "unsupported-type", "invalid")
_WRITE = ("unavailable", "timeout")
_JSON_PATCH = ("application/json", "application/merge-patch+json")
_MANY = {"oneOf": [_DOCUMENT, {"type": "array", "items": _DOCUMENT, "maxItems": 10_000}]}

POST_DOCUMENTS = _endpoint(_ACCEPTED, *_BODY, *_WRITE, body=_MANY, types=("application/json", "application/x-ndjson"), status=202)
PATCH_DOCUMENT = _endpoint(_ACCEPTED, *_BODY, *_WRITE, body=_DOCUMENT, types=_JSON_PATCH, status=202)
PUT_DOCUMENT = _endpoint(_ACCEPTED, *_BODY, *_WRITE, body=_DOCUMENT, status=202)
DELETE_DOCUMENT = _endpoint(_ACCEPTED, "invalid", *_WRITE, status=202)

_PAGE = {"type": "object", "properties": {"items": {"type": "array", "items": _WEBHOOK}, "nextCursor": {"type": ["string", "null"]}}}
GET_WEBHOOK = _endpoint(_WEBHOOK, "not-found")
PUT_WEBHOOK = _endpoint(_WEBHOOK, *_BODY, *_WRITE, body=_WANTED, status=(200, 201))
PATCH_WEBHOOK = _endpoint(_WEBHOOK, "not-found", *_BODY, *_WRITE, body=_OBJECT, types=_JSON_PATCH)
DELETE_WEBHOOK = _endpoint(None, "not-found", *_WRITE)
TEST_WEBHOOK = _endpoint(
    _OBJECT,
    "not-found",
    *_BODY,
    body={"type": "object", "properties": {"doc": _DOCUMENT, "old": _DOCUMENT}},
    body_required=False,
)
PAUSE_WEBHOOK = _endpoint(_WEBHOOK, "not-found", *_WRITE)
RESUME_WEBHOOK = PAUSE_WEBHOOK
ROTATE_SECRET = _endpoint(
    _WEBHOOK,
    "not-found",
    "conflict",
    *_BODY,
    *_WRITE,
    body={"type": "object", "properties": {"secret": {"type": "string"}, "overlapSeconds": {"type": "integer", "default": 86_400}}},
    body_required=False,
)
CHECK_QUERY = _endpoint(
    {"type": "object", "properties": {"valid": {"const": True}, "result": {"type": ["boolean", "null"]}}},
    *_BODY,
    body={"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}, "doc": _OBJECT, "args": _OBJECT}},
)
_STRING: dict[str, Any] = {"type": "string"}
_ITEMS = {"type": "object", "properties": {"items": {"type": "array", "items": _OBJECT}, "nextCursor": {"type": ["string", "null"]}}}
_ATTEMPT_FILTERS: dict[str, dict[str, Any]] = {
    "webhook": _STRING,
    "outcome": {"enum": ["delivered", "retry", "dead", "failed"], "description": "failed: retry and dead"},
    "since": {"type": "string", "description": "a time (RFC 3339) or how long ago (1h)"},
    "until": {"type": "string", "description": "a time (RFC 3339) or how long ago (1h)"},
    "document": {"type": "string", "description": "collection/id"},
    "status": {"type": "integer"},
    "q": {"type": "string", "description": "part of the document's key, the URL, the error or the start of a body"},
}
_LETTER_FILTERS: dict[str, dict[str, Any]] = {"reason": _STRING, "webhook": _STRING, "since": _ATTEMPT_FILTERS["since"]}
_PAGING: dict[str, dict[str, Any]] = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}, "cursor": _STRING}
_FOLLOW: dict[str, dict[str, Any]] = {
    "follow": {"type": "string", "description": "now, or nextCursor: attempts in the order in which they come"}
}


def _listed(endpoint: dict[str, Any], parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An endpoint with parameters in its query."""
    described = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in parameters.items()]
    return endpoint | {"openapi_extra": endpoint["openapi_extra"] | {"parameters": described}}


def _filters(fields: dict[str, dict[str, Any]], **more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields | more, "additionalProperties": False}


_RESENT = {
    "type": "object",
    "properties": {"id": {"type": ["string", "null"]}, "deliveries": {"type": "integer"}, "from": _OBJECT, "until": _OBJECT},
}
_FLAG = {"type": "boolean", "default": False}
_REDRIVEN = {
    "type": "object",
    "properties": {
        "redriven": {"type": "array", "items": _STRING},
        "left": {"type": "array", "items": _OBJECT},
        "nextCursor": {"type": ["string", "null"]},
    },
}
LIST_WEBHOOKS = _listed(_endpoint(_PAGE, "invalid"), _PAGING)
LIST_ATTEMPTS = _listed(_endpoint(_ITEMS, "invalid", "unavailable"), _ATTEMPT_FILTERS | _PAGING | _FOLLOW)
GET_ATTEMPT = _endpoint(_OBJECT, "not-found", "unavailable")
RESEND = _endpoint(_RESENT, "not-found", "conflict", *_BODY, *_WRITE, body=_filters({"only": _FLAG}), status=202, body_required=False)
RESEND_MANY = _endpoint(_RESENT, *_BODY, *_WRITE, body=_filters(_ATTEMPT_FILTERS, only=_FLAG, dryRun=_FLAG), status=(200, 202))
_PLACE = {
    "type": "object",
    "description": "one of these",
    "properties": {
        "offset": {"type": ["integer", "string"], "description": "partition:offset where the lane has several"},
        "time": {"type": "string", "format": "date-time"},
        "txnId": {"type": "integer"},
        "beginning": {"const": True},
    },
    "additionalProperties": False,
}
_REPLAY = {
    "type": "object",
    "required": ["from"],
    "properties": {
        "from": _PLACE, "until": _PLACE, "query": _STRING, "ids": {"type": "array", "items": _ID}, "failed": _FLAG, "dryRun": _FLAG
    },
    "additionalProperties": False,
}  # fmt: skip
REPLAY = _endpoint(_RESENT, "not-found", "conflict", *_BODY, *_WRITE, body=_REPLAY, status=(200, 202))
GET_REPLAY = _endpoint(_OBJECT, "not-found", "unavailable")
CANCEL_REPLAY = _endpoint(_OBJECT, "not-found", "conflict", *_WRITE)
LIST_LETTERS = _listed(_endpoint(_ITEMS, "invalid", "unavailable"), _LETTER_FILTERS | _PAGING)
GET_LETTER = _endpoint(_OBJECT, "not-found", "unavailable")
DELETE_LETTER = _endpoint(None, "not-found", *_WRITE)
REDRIVE = _endpoint(_REDRIVEN, "not-found", "conflict", *_WRITE, status=202)
REDRIVE_MANY = _endpoint(_REDRIVEN, *_BODY, *_WRITE, body=_filters(_LETTER_FILTERS, cursor=_STRING), status=202)
_QUERY = {"query": {"type": "string"}, "args": _OBJECT}
EXPLAIN_QUERY = _endpoint(
    {
        "type": "object",
        "properties": {
            "result": {"type": ["boolean", "null"]},
            "event": {"enum": ["create", "enter", "update", "leave", None]},
            "tree": {"type": "object", "properties": {"text": {"type": "string"}, "value": {}, "children": {"type": "array"}}},
            "index": {"type": "object", "properties": {"found": {"type": "boolean"}, "by": {"type": ["string", "null"]}}},
        },
    },
    *_BODY,
    body={"type": "object", "required": ["query", "doc"], "properties": {**_QUERY, "doc": _OBJECT, "old": _OBJECT}},
)
DRY_RUN_QUERY = _endpoint(
    {
        "type": "object",
        "properties": {
            "scanned": {"type": "integer"},
            "matches": {"type": "object", "additionalProperties": {"type": "integer"}},
            "examples": {"type": "array", "items": _OBJECT, "maxItems": 10},
        },
    },
    *_BODY,
    *_WRITE,
    body={
        "type": "object",
        "required": ["query", "collection"],
        "properties": {
            **_QUERY,
            "collection": {"type": "string"},
            "since": {"type": "string", "default": "24h"},
            "until": {"type": "string"},
        },
    },
)
LIST_LANES = _listed(_endpoint(_ITEMS, "invalid", "unavailable"), _PAGING)
STATUS = _endpoint(_OBJECT, "unavailable")


def complete(document: dict[str, Any]) -> None:
    """Add what FastAPI cannot know, as every endpoint takes the bare request: schemas, the parameters of paths, the token."""
    _, schemas = msgspec.json.schema_components([WebhookSpec], ref_template="#/components/schemas/{name}")
    schemas["WebhookSpec"]["required"] = ["url"]  # the path has the name
    schemas["WebhookSpec"]["properties"]["secret"] = {"type": ["string", "null"]}
    schemas["WebhookSpec"]["properties"]["collection"] = {"type": "string", "description": "instead of collections"}
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": "where API_TOKEN is set"}}
    document["security"] = [{}, {"token": []}]
    for path, methods in document["paths"].items():
        named = [{"name": name, "in": "path", "required": True, "schema": _STRING} for name in re.findall(r"{(\w+)}", path)]
        for endpoint in methods.values():
            if named:
                endpoint["parameters"] = named + endpoint.get("parameters", [])


def page(document: dict[str, Any]) -> str:
    """``/docs``: every endpoint of an OpenAPI document, as plain HTML."""
    rows = [
        f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(endpoint.get('summary', ''))}. "
        f"{escape(endpoint.get('description', ''))}</p>{_parameters(endpoint)}{_body(endpoint)}{_answers(endpoint)}"
        for path, methods in document["paths"].items()
        for method, endpoint in methods.items()
    ]
    return _HTML.format(title=escape(f"{document['info']['title']} {document['info']['version']}"), rows="\n".join(rows))


def _parameters(endpoint: dict[str, Any]) -> str:
    names = [parameter["name"] for parameter in endpoint.get("parameters", []) if parameter["in"] == "query"]
    return f"<p>Query: <code>{escape(', '.join(names))}</code></p>" if names else ""


def _body(endpoint: dict[str, Any]) -> str:
    content = endpoint.get("requestBody", {}).get("content", {})
    return f"<p>Body: {escape(', '.join(content))}</p>" if content else ""


def _answers(endpoint: dict[str, Any]) -> str:
    answers = sorted(endpoint["responses"].items())
    return "<ul>" + "".join(f"<li>{escape(status)}: {escape(answer['description'])}</li>" for status, answer in answers) + "</ul>"


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto}}h2{{font-size:1rem}}</style>
</head><body><h1>{title}</h1>
<p>The same for programs: <a href="/openapi.json">openapi.json</a>. Errors are <code>application/problem+json</code> (RFC 9457).</p>
{rows}
</body></html>
"""
