"""
From what a user wrote to a :class:`WebhookSpec`, or to a list of every field that is wrong. Source: docs/reference/webhook.md.

Pure. Called by the API with what was sent, and by nobody else: a spec that is on record has passed here.
What the reference describes and this version does not do yet is refused by name.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from schemas.deliveries import ALIASES, MARKERS_ASKED_FOR
from schemas.durations import seconds
from schemas.errors import FieldError, Invalid
from schemas.keys import check_collection, id_text
from schemas.reader import Reader, as_text, one_of, shown
from schemas.signing import SCHEMES, check_secret
from schemas.starts import NOW, TXN_MAX, check_start
from schemas.webhook_auth import read_auth, unmasked
from schemas.webhook_checks import Checks, QueryCheck
from schemas.webhook_json import ANSWERED_ONLY
from schemas.webhook_request import read_headers, read_payload
from schemas.webhook_url import check_url
from schemas.webhooks import (
    EVENTS,
    SELECTING,
    DeliverySettings,
    Fields,
    Retry,
    State,
    Trigger,
    WebhookSpec,
)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)

TRIGGERS_MAX = 100
LANE_PARTITIONS_MAX = 32
ATTEMPTS_MAX = 100
FIELDS_MAX = 1_000
FIELD_CHARS_MAX = 1_024
SCHEDULE_S_MAX = 7 * 86_400  # how long a lane keeps its deliveries


class QueryFieldError(FieldError, frozen=True):
    """A query that cannot be read: where, from 1, and what could have stood there."""

    line: int
    column: int
    expected: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """The message of a query is a sentence of its own, about a place in it."""
        return f"{self.field}, line {self.line}, column {self.column}: {self.message}"


class Wanted(msgspec.Struct, frozen=True):
    """What a user asks for; ``secret`` None: keep the one there is, or make one."""

    spec: WebhookSpec
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Wanted({self.spec.name!r})"


def parse_webhook(
    data: object,
    *,
    name: str | None,
    checks: Checks,
    disabled: bool = False,
    now_us: int = TXN_MAX,
) -> Wanted:
    """
    The webhook that the input asks for, every default filled in.

    Args:    data: decoded JSON or YAML. name: where it is known already; the input may leave it out or repeat it.
             disabled: it is disabled now, so that this state may be sent back.
             now_us: µs since 1970; a start may not be later.
    Raises:  Invalid: every wrong field is named.
    """
    errors: list[FieldError] = []
    top = Reader(data, "", errors)
    if errors:  # no object: what it lacks as one is no help
        raise Invalid(errors)
    for answered in ANSWERED_ONLY:  # an answer may be sent back as it came
        top.raw(answered)
    selected = _selection(top, checks.query)
    signing = top.choice("signing", SCHEMES, "v1")
    spec = WebhookSpec(
        name=_name(top, name),
        url=top.checked("url", lambda value: check_url(value, checks), ""),
        **selected,
        method=top.choice("method", ("POST", "PUT", "PATCH"), "POST"),
        auth=read_auth(top.inner("auth"), checks),
        headers=read_headers(top),
        payload=read_payload(top.inner("payload")),
        fields=_fields(top.inner("fields")),
        delivery=_delivery(top.inner("delivery")),
        retry=_retry(top.inner("retry")),
        start=top.checked("start", lambda value: check_start(as_text(value), now_us), NOW),
        on_gap=top.choice("onGap", ("initial", "continue"), "initial"),
        signing=signing,
        state=_state(top, disabled=disabled),
    )
    if "url" not in top:
        top.refuse("url", "is missing")
    if "mtls" in spec.auth and spec.url.startswith("http://"):
        top.refuse("auth.mtls", "needs an https URL: nobody shows a certificate over plain http")
    secret = top.checked("secret", lambda value: read_secret(value, signing))
    top.end()
    if errors:
        raise Invalid(errors)
    return Wanted(spec, secret)


def check_name(value: Any) -> str:
    """
    A webhook's name.

    Raises:  ValueError.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"is {shown(value)}, must be 1 to 63 of a-z, 0-9 and -, and not begin with -")
    return value


def read_secret(value: Any, scheme: str) -> str:
    """
    A signing secret of one's own, for this scheme.

    Raises:  ValueError; the message never holds the value.
    """
    return check_secret(unmasked(value), scheme)


def _name(top: Reader, known: str | None) -> str:
    if known is None and "name" not in top:
        top.refuse("name", "is missing")
    name = str(top.checked("name", check_name, known or ""))
    if known is not None and name != known:
        top.refuse("name", f"is {shown(name)}, but the webhook is {shown(known)}: they must be the same")
    return name


def _selection(top: Reader, check_query: QueryCheck) -> dict[str, Any]:
    """The fields of the spec that say what is selected: the five, or the triggers."""
    triggers = top.raw("triggers")
    if not triggers:
        trigger = _trigger(top, check_query)
        return {name: getattr(trigger, name) for name in trigger.__struct_fields__}
    for name in (*SELECTING[:-1], "collection"):
        if top.raw(name):
            top.refuse(name, "stands in each of the triggers when there are any: leave it out here")
    if not isinstance(triggers, list) or len(triggers) > TRIGGERS_MAX:
        top.refuse("triggers", f"must be a list of at most {TRIGGERS_MAX}")
        return {}
    found = []
    for index, data in enumerate(triggers):
        reader = Reader(data, f"triggers[{index}]", top.errors)
        found.append(_trigger(reader, check_query))
        reader.end()
    return {"triggers": tuple(found)}


def _trigger(reader: Reader, check_query: QueryCheck) -> Trigger:
    collections = _collections(reader)
    query = reader.text("query", "true")
    args = reader.object("args")
    for name in args:
        if not ARGUMENT.fullmatch(name):
            reader.refuse(f"args.{name}", "must be named with letters, digits and _")
    wrong = check_query(query, args, collections)
    if wrong is not None:
        reader.errors.append(msgspec.structs.replace(wrong, field=reader.path_of(wrong.field)))
    ids = reader.each("ids", _id)
    events = reader.each("events", _event)
    if "events" in reader and reader.raw("events") == []:
        reader.refuse("events", "is empty: name at least one event, or leave it out for all")
    return Trigger(collections, query, args, tuple(ids), tuple(events) if "events" in reader else EVENTS)


def _collections(reader: Reader) -> tuple[str, ...]:
    one = reader.checked("collection", _collection)
    many = reader.each("collections", _collection)
    if "collection" in reader and "collections" in reader:
        reader.refuse("collection", "and collections are both there: one is enough")
    elif "collection" in reader:
        many = [] if one is None else [one]
    elif not reader.raw("collections"):
        reader.refuse("collections", "is missing: name at least one, or * for all")
    if "*" in many and len(many) > 1:
        reader.refuse("collections", "has * beside others: * alone is all")
    return tuple(many)


def _collection(value: Any) -> str:
    return "*" if value == "*" else check_collection(value)


def _id(value: Any) -> str | dict[str, Any]:
    id_text(value)
    return value  # type: ignore[no-any-return]  # id_text raises on anything but a string or an object


def _event(value: Any) -> str:
    if value == "initial":
        raise ValueError("is 'initial', which comes with start and is not asked for here")
    if value not in EVENTS and value not in ALIASES and value not in MARKERS_ASKED_FOR:
        raise ValueError(f"is {shown(value)}, must be {one_of((*EVENTS, *ALIASES, *MARKERS_ASKED_FOR))}")
    return str(value)


def _fields(reader: Reader) -> Fields:
    include, exclude = (tuple(reader.each(name, _field_path, length_max=FIELDS_MAX)) for name in ("include", "exclude"))
    reader.end()
    return Fields(include, exclude)


def _field_path(value: Any) -> str:
    text = as_text(value)
    if len(text) > FIELD_CHARS_MAX or not all(text.split(".")):
        raise ValueError(f"is {shown(value)}, must be names with dots between, at most {FIELD_CHARS_MAX:,} characters")
    return text


def _delivery(reader: Reader) -> DeliverySettings:
    delivery = DeliverySettings(
        concurrency=reader.whole("concurrency", 64, 1, 4096),
        timeout_seconds=reader.number("timeoutSeconds", 15, 1, 60) or 15,
        rate_limit=reader.number("rateLimit", None, 0.01, 1_000_000),
        order=reader.choice("order", ("document", "none"), "document"),
        partitions=reader.whole("partitions", 1, 1, LANE_PARTITIONS_MAX),
    )
    reader.end()
    return delivery


def _retry(reader: Reader) -> Retry:
    schedule = tuple(reader.each("schedule", _duration, length_max=ATTEMPTS_MAX))
    if "schedule" in reader and reader.raw("schedule") == []:
        reader.refuse("schedule", "is empty: the first entry is the wait before the first attempt")
    if sum(map(seconds, schedule)) > SCHEDULE_S_MAX:
        reader.refuse("schedule", "is longer than 7d altogether, and a lane keeps its deliveries for 7d")
    retry = Retry(
        schedule=schedule if "schedule" in reader else Retry().schedule,
        jitter=reader.number("jitter", 0.2, 0, 1) or 0.0,
        disable_after=reader.checked("disableAfter", _duration, "5d"),
    )
    reader.end()
    return retry


def _duration(value: Any) -> str:
    seconds(value)
    return str(value)


def _state(top: Reader, *, disabled: bool) -> State:
    def check(value: Any) -> State:
        if value == State.DISABLED and not disabled:
            raise ValueError("is 'disabled', which Livehook alone sets: active or paused are yours")
        if value not in list(State):
            raise ValueError(f"is {shown(value)}, must be active or paused")
        return State(value)

    return State(top.checked("state", check, State.ACTIVE))
