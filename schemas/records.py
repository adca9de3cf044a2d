"""
Records as bytes, record by record: the only place that knows both our field names and the wire's.

Every ``decode_…`` raises BadRecord (undecodable, unknown-schema; for mutations also invalid, too-large) and nothing else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from schemas import backfills, strict_json
from schemas.attempts import Attempt, AttemptError, ErrorCode, Exchanged, Outcome
from schemas.avro_reader import Read, compile_reader
from schemas.backfills import BackfillEnd, BackfillProgress, BackfillReady, decode_backfill
from schemas.changes import Change, PassedMark
from schemas.codec import SINGLE_OBJECT, WIRE_FORMAT, Schema, SchemaById, decode, decode_row, decode_row_with, decode_with, encode
from schemas.deliveries import MARKERS, Delivery, Match
from schemas.errors import BadRecord, Reason
from schemas.gaps import GAP, Gap, decode_gap
from schemas.mutations import Mark, Mutation, from_fields, removal
from schemas.notices import Notice, NoticeKind
from schemas.parked import Down, Parked
from schemas.positions import Origin
from schemas.replays import REPLAY, Replay, decode_replay
from schemas.resends import RESEND
from schemas.webhooks import Installation, PastReplay, Secret, State, WebhookRevision, WebhookSince, WebhookSpec, WebhookStatus

MUTATION = Schema("mutation")
MARK = Schema("mark")
PASSED_MARK = Schema("passed_mark")
END_MARK = Schema("end_mark")
PASSED_END_MARK = Schema("passed_end_mark")
CHANGE = Schema("change")
DELIVERY = Schema("delivery")
ATTEMPT = Schema("attempt", of_attributes=True)
REVISION = Schema("webhook_revision")
SINCE = Schema("webhook_since")
STATUS = Schema("webhook_status")
INSTALLATION = Schema("installation")
PARKED = Schema("parked")
DOWN = Schema("down")
NOTICE = Schema("notice")
ALL = (
    MUTATION, MARK, END_MARK, PASSED_MARK, PASSED_END_MARK, CHANGE, DELIVERY, ATTEMPT, REVISION, SINCE, STATUS, INSTALLATION, RESEND,
    REPLAY, PARKED, DOWN, NOTICE, backfills.PROGRESS, backfills.END, backfills.READY, GAP,
)  # fmt: skip

_ATTEMPT_WITHOUT_HEADERS = compile_reader(ATTEMPT.newest, without=("headers",))


def _of_change(*names: str) -> Read:
    """What reads only these of its fields."""
    return compile_reader(
        CHANGE.newest, as_row=True, without=[one["name"] for one in CHANGE.sources[-1]["fields"] if one["name"] not in names]
    )


_ORIGIN = _of_change("epoch", "partition", "offset")
_VALUES = _of_change("oldValue", "newValue")

E = TypeVar("E", bound=StrEnum)

_MATCHES = {match.value: match for match in Match}  # asking the Enum costs five times as much
_ORDERED = frozenset(match.value for match in Match if match not in MARKERS)

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode_mutation(mutation: Mutation) -> bytes:
    """One record of ``mutations``; its key is ``mutation.key``."""
    return encode(
        MUTATION,
        {
            "method": mutation.method.value,
            "collection": mutation.collection,
            "id": mutation.id,
            "value": mutation.value,
            "ifVersion": mutation.if_version,
            "metadata": mutation.metadata,
        },
    )


def decode_mutation(key: bytes | None, value: bytes | None, schema_by_id: SchemaById | None = None) -> Mutation | Mark:
    """What any producer wrote to ``mutations``: JSON, Avro, or no value at all (a remove of the document that the key names)."""
    if value is None:
        return removal(key)
    if MARK.wrote(value):
        return _mark(decode(MARK, value)["webhooks"])
    if END_MARK.wrote(value):
        record = decode(END_MARK, value)
        return _mark(record["webhooks"], record["uid"])
    if value.startswith((SINGLE_OBJECT, WIRE_FORMAT)):
        return _avro_mutation(decode(MUTATION, value, schema_by_id))
    return _json_mutation(value)


def _mark(offset: int, ends: str = "") -> Mark:
    if offset < 0:
        raise BadRecord(Reason.INVALID, f"the mark names offset {offset}")
    return Mark(offset, ends)


def _json_mutation(value: bytes) -> Mutation:
    try:
        fields, normal = strict_json.read(value)
    except strict_json.NotStrict as error:
        raise BadRecord(Reason.UNDECODABLE, f"no strict JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadRecord(Reason.INVALID, "the mutation is no object")
    return from_fields(fields, _parts(normal))


def _avro_mutation(record: dict[str, Any]) -> Mutation:
    fields: dict[str, Any] = {name: value for name, value in record.items() if value is not None}
    raw: dict[str, Any] = {}
    for name in ("value", "metadata"):
        if name in fields:
            fields[name], raw[name] = _embedded(name, fields[name])
    id_ = fields.get("id")
    if id_ is not None and id_.startswith("{"):
        fields["id"], _ = _embedded("id", id_.encode())
    return from_fields(fields, raw)


def _embedded(name: str, data: bytes) -> tuple[Any, bytes]:
    try:
        return strict_json.read(data)
    except strict_json.NotStrict as error:
        raise BadRecord(Reason.UNDECODABLE, f"{name}: no strict JSON: {error}") from error


def encode_mark(mark: Mark) -> bytes:
    """A mark for one partition of ``mutations``."""
    return encode(END_MARK, {"webhooks": mark.webhooks, "uid": mark.ends}) if mark.ends else encode(MARK, {"webhooks": mark.webhooks})


def encode_change(change: Change) -> bytes:
    """One record of ``changes``; its key is ``change.key``."""
    origin = change.origin
    return encode(
        CHANGE,
        {
            "collection": change.collection,
            "id": change.id,
            "txnId": change.txn_id,
            "version": change.version,
            "oldValue": change.old,
            "newValue": change.new,
            "epoch": origin.epoch,
            "partition": origin.partition,
            "offset": origin.offset,
            "appendedUs": change.appended_us,
            "via": [number for pair in sorted(change.via.items()) for number in pair],
            "metadata": change.metadata,
        },
    )


def encode_passed_mark(mark: PassedMark) -> bytes:
    """A mark on its way through ``changes``."""
    fields = {"webhooks": mark.webhooks} | msgspec.structs.asdict(mark.origin)
    return encode(PASSED_END_MARK, fields | {"uid": mark.ends}) if mark.ends else encode(PASSED_MARK, fields)


def decode_change(value: bytes) -> Change | PassedMark:
    """One record of ``changes``."""
    if not CHANGE.wrote(value):
        if PASSED_MARK.wrote(value):
            mark = decode(PASSED_MARK, value)
            return PassedMark(mark["webhooks"], Origin(mark["epoch"], mark["partition"], mark["offset"]))
        if PASSED_END_MARK.wrote(value):
            mark = decode(PASSED_END_MARK, value)
            return PassedMark(mark["webhooks"], Origin(mark["epoch"], mark["partition"], mark["offset"]), mark["uid"])
    return _change(value)


def decode_values(value: bytes) -> tuple[bytes | None, bytes | None]:
    """Old and new value of a change, no mark; what else it holds is passed over."""
    _, _, _, _, old, new, *_ = decode_row_with(_VALUES, CHANGE, value)
    return old, new


def _change(value: bytes) -> Change:
    collection, id_, txn_id, version, old, new, epoch, partition, offset, appended_us, via, metadata = decode_row(CHANGE, value)
    forwarded = dict(zip(via[::2], via[1::2], strict=True)) if via else {}
    return Change(collection, id_, txn_id, version, old, new, Origin(epoch, partition, offset), appended_us, forwarded, metadata)


def encode_delivery(delivery: Delivery, change: bytes | None = None) -> bytes:
    """One record of a lane. ``change``: the bytes that the change was read from, to spare encoding it again."""
    return encode(
        DELIVERY,
        {
            "webhookUid": delivery.webhook_uid,
            "revision": delivery.revision,
            # Nothing more for the first trigger: the same log has to give the same bytes in every version of the program.
            "match": f"{delivery.match.value}:{delivery.trigger}" if delivery.trigger else delivery.match.value,
            "snapshot": delivery.snapshot,
            "replay": delivery.replay,
            "change": encode_change(delivery.change) if change is None else change,
        },
    )


def decode_delivery(value: bytes) -> Delivery:
    """One record of a lane."""
    uid, revision, match, snapshot, replay, inner = decode_row(DELIVERY, value)
    change = _change(inner) if inner.startswith(CHANGE.prefix) else decode_change(inner)
    if isinstance(change, PassedMark):
        raise BadRecord(Reason.INVALID, "a delivery holds a mark where its change should be")
    if (found := _MATCHES.get(match)) is not None:
        return Delivery(uid, revision, found, change, snapshot, replay)
    match, _, trigger = match.partition(":")
    return Delivery(uid, revision, _member(Match, match), change, snapshot, replay, _trigger(trigger) if trigger else 0)


def decode_delivery_order(value: bytes) -> tuple[str, Origin | None]:
    """The uid of the webhook and the ``order`` of one record of a lane; what else it holds is passed over, for who only counts."""
    uid, _, match, snapshot, replay, inner = decode_row(DELIVERY, value)
    if replay is not None or snapshot or match not in _ORDERED or not inner.startswith(CHANGE.prefix):
        delivery = decode_delivery(value)
        return delivery.webhook_uid, delivery.order
    *_, epoch, partition, offset, _, _, _ = decode_row_with(_ORIGIN, CHANGE, inner)
    return uid, Origin(epoch, partition, offset)


def _trigger(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise BadRecord(Reason.INVALID, f"{text[:20]!r} is no number of a trigger")
    return int(text)


def encode_attempt(attempt: Attempt) -> bytes:
    """One record of ``attempts``."""
    return encode(ATTEMPT, attempt)


def decode_attempt_fields(value: bytes) -> dict[str, Any]:
    """The fields of one record of ``attempts`` as they are written, but for the headers: those take as long as all else."""
    return decode_with(_ATTEMPT_WITHOUT_HEADERS, ATTEMPT, value)


def decode_attempt(value: bytes) -> Attempt:
    """One record of ``attempts``."""
    record = decode(ATTEMPT, value)
    request, response = record["request"], record["response"]
    return Attempt(
        record["id"],
        record["webhook"],
        record["deliveryId"],
        record["collection"],
        record["document"],
        record["match"],
        record["txnId"],
        record["version"],
        record["offset"],
        record["attempt"],
        record["startedUs"],
        record["durationUs"],
        _member(Outcome, record["outcome"]),
        Exchanged(request["headers"], request["body"], request["bodyTruncated"], request["method"], request["url"]),
        response and Exchanged(response["headers"], response["body"], response["bodyTruncated"], status=response["status"]),
        None if record["errorCode"] is None else AttemptError(_member(ErrorCode, record["errorCode"]), record["errorDetail"]),
        record["nextAttemptUs"],
        record["test"],
        record["replay"],
    )


def encode_parked(record: Parked | Down) -> bytes:
    """One record of ``parked``."""
    if isinstance(record, Down):
        return encode(DOWN, {"webhookUid": record.webhook_uid, "sinceUs": record.since_us})
    return encode(
        PARKED,
        {
            "webhookUid": record.webhook_uid,
            "partition": record.partition,
            "offset": record.offset,
            "document": record.document,
            "attempt": record.attempt,
            "dueUs": record.due_us,
        },
    )


def decode_parked(value: bytes) -> Parked | Down:
    """One record of ``parked``."""
    if DOWN.wrote(value):
        down = decode(DOWN, value)
        return Down(down["webhookUid"], down["sinceUs"])
    record = decode(PARKED, value)
    return Parked(record["webhookUid"], record["partition"], record["offset"], record["document"], record["attempt"], record["dueUs"])


def encode_notice(notice: Notice) -> bytes:
    """One record of ``attempts`` that is no attempt."""
    return encode(
        NOTICE,
        {
            "id": notice.id,
            "kind": notice.kind.value,
            "webhook": notice.webhook,
            "atUs": notice.at_us,
            "detail": notice.detail,
            "document": notice.document,
            "deliveryId": notice.delivery_id,
            "offset": notice.offset,
        },
    )


def decode_activity(value: bytes) -> Attempt | Notice:
    """One record of ``attempts``, whichever it is."""
    if not NOTICE.wrote(value):
        return decode_attempt(value)
    record = decode(NOTICE, value)
    return Notice(
        record["id"],
        _member(NoticeKind, record["kind"]),
        record["webhook"],
        record["atUs"],
        record["detail"],
        record["document"],
        record["deliveryId"],
        record["offset"],
    )


def encode_revision(revision: WebhookRevision) -> bytes:
    """One record of ``webhooks``; its key is ``revision.key``."""
    since = revision.since
    return encode(
        REVISION,
        {
            "uid": revision.uid,
            "name": revision.name,
            "revision": revision.revision,
            "edit": revision.edit,
            "spec": msgspec.json.encode(revision.spec),
            "secrets": [{"value": secret.value, "untilUs": secret.until_us} for secret in revision.secrets],
            "createdUs": revision.created_us,
            "updatedUs": revision.updated_us,
            "since": None if since is None else [msgspec.structs.asdict(origin) for origin in since],
            "deleted": revision.deleted,
            "snapshot": revision.snapshot,
            "replay": None if revision.replay is None else _past_replay_json(revision.replay),
        },
    )


def _past_replay_json(replay: PastReplay) -> dict[str, Any]:
    return {
        "id": replay.id,
        "number": replay.number,
        "firstTxn": replay.first_txn,
        "snapshot": replay.snapshot,
        "afterGap": replay.after_gap,
    }


def encode_since(since: WebhookSince) -> bytes:
    """One record of ``webhooks``; its key is ``since.key``."""
    origin = since.origin
    return encode(
        SINCE,
        {
            "name": since.name,
            "revision": since.revision,
            "epoch": origin.epoch,
            "partition": origin.partition,
            "offset": origin.offset,
        },
    )


def encode_status(status: WebhookStatus) -> bytes:
    """One record of ``webhooks``; its key is ``name/status``."""
    return encode(
        STATUS,
        {
            "uid": status.uid,
            "name": status.name,
            "edit": status.edit,
            "state": status.state.value,
            "reason": status.reason,
            "atUs": status.at_us,
        },
    )


def encode_installation(installation: Installation) -> bytes:
    """The record of ``webhooks`` with the key ``$installation``."""
    return encode(
        INSTALLATION,
        {
            "epoch": installation.epoch,
            "mutationsTopicId": installation.mutations_topic_id,
            "changesTopicId": installation.changes_topic_id,
        },
    )


Registered = WebhookRevision | WebhookSince | WebhookStatus | Replay | Installation | BackfillProgress | BackfillEnd | BackfillReady | Gap
"""What stands in ``webhooks``."""


def decode_webhooks(value: bytes) -> Registered:
    """One record of ``webhooks``."""
    if (backfill := decode_backfill(value)) is not None:
        return backfill
    if REPLAY.wrote(value):
        return decode_replay(value)
    if GAP.wrote(value):
        return decode_gap(value)
    if SINCE.wrote(value):
        since = decode(SINCE, value)
        return WebhookSince(since["name"], since["revision"], Origin(since["epoch"], since["partition"], since["offset"]))
    if INSTALLATION.wrote(value):
        found = decode(INSTALLATION, value)
        return Installation(found["epoch"], found["mutationsTopicId"], found["changesTopicId"])
    if STATUS.wrote(value):
        status = decode(STATUS, value)
        return WebhookStatus(
            status["uid"], status["name"], status["edit"], _member(State, status["state"]), status["reason"], status["atUs"]
        )
    record = decode(REVISION, value)
    since, replay = record["since"], record["replay"]
    return WebhookRevision(
        record["uid"],
        record["name"],
        record["revision"],
        record["edit"],
        _spec(record["spec"]),
        [Secret(secret["value"], secret["untilUs"]) for secret in record["secrets"]],
        record["createdUs"],
        record["updatedUs"],
        None if since is None else [Origin(origin["epoch"], origin["partition"], origin["offset"]) for origin in since],
        record["deleted"],
        record["snapshot"],
        None if replay is None else PastReplay(replay["id"], replay["number"], replay["firstTxn"], replay["snapshot"], replay["afterGap"]),
    )


def _spec(data: bytes) -> WebhookSpec:
    try:
        return msgspec.json.decode(data, type=WebhookSpec)
    except msgspec.MsgspecError as error:
        raise BadRecord(Reason.INVALID, f"spec: {error}") from error


def _member(kind: type[E], value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise BadRecord(Reason.INVALID, f"{value!r} is no {kind.__name__}") from None
