"""Bytes of records: round trips, old bytes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import records
from schemas.attempts import Attempt, AttemptError, ErrorCode, Exchanged, Outcome
from schemas.backfills import BackfillEnd, BackfillProgress, BackfillReady, encode_backfill
from schemas.changes import Change, PassedMark
from schemas.deliveries import Delivery, Match
from schemas.errors import BadRecord, Reason
from schemas.gaps import Gap, encode_gap
from schemas.mutations import Mark, Method, Mutation
from schemas.notices import Notice, NoticeKind
from schemas.parked import Down, Parked
from schemas.positions import Origin
from schemas.replays import Replay, ReplayState, Selected, encode_replay
from schemas.webhooks import (
    Installation,
    PastReplay,
    Secret,
    State,
    Trigger,
    WebhookRevision,
    WebhookSince,
    WebhookSpec,
    WebhookStatus,
)

CHANGE = Change(
    "people",
    '{"a":1}',
    1_790_000_000_000_003,
    7,
    b'{"_id":{"a":1}}',
    None,
    Origin(1, 3, 2**40),
    1_790_000_000_000_000,
    {1: 5, 6: 2**40},
    b"{}",
)
SPEC = WebhookSpec(
    "adults", "https://example.com/é", triggers=(Trigger(("people",), "age >= 18", {"x": [1, None]}, ("1", {"a": 1}), ("publish",)),)
)
REQUEST = Exchanged({"a": "b"}, b"\x00\xff", body_truncated=False, method="POST", url="https://example.com")
ATTEMPT = Attempt(
    "att_1", "adults", "msg_1", "people", "people/1", "create", 1, 1, "17", 2, 10, 20, Outcome.RETRY,
    REQUEST, Exchanged({}, b"no", body_truncated=True, status=503), AttemptError(ErrorCode.STATUS, "503"), 99, test=True, replay="rpl_1",
)  # fmt: skip
NOTICE = Notice("ntc_1", NoticeKind.DEAD, "adults", 7, "status 400", "people/1", "msg_1", "17")
UPSERT = Mutation(Method.UPSERT, "people", "1", b'{"_id":"1"}', 3, b'{"by":"x"}')
SECRETS = [Secret("whsec_x", None), Secret("whsec_y", 5)]
REVISION = WebhookRevision("uid", "adults", 4, 9, SPEC, SECRETS, 1, 2, [Origin(0, 0, 3)], deleted=True)


def decode_mutation(data):
    return records.decode_mutation(None, data)


EXAMPLES: dict[str, tuple[Any, Any, Any]] = {
    "mutation": (records.encode_mutation, decode_mutation, UPSERT),
    "removal": (records.encode_mutation, decode_mutation, Mutation(Method.REMOVE, "people", '{"a":1}')),
    "mark": (records.encode_mark, decode_mutation, Mark(2**40)),
    "end_mark": (records.encode_mark, decode_mutation, Mark(2**40, "uid")),
    "change": (records.encode_change, records.decode_change, CHANGE),
    "passed_mark": (records.encode_passed_mark, records.decode_change, PassedMark(9, Origin(0, 7, 3))),
    "passed_end_mark": (records.encode_passed_mark, records.decode_change, PassedMark(9, Origin(0, 7, 3), "uid")),
    "delivery": (records.encode_delivery, records.decode_delivery, Delivery("uid", 4, Match.ENTER, CHANGE, 2, "rpl_1")),
    "attempt": (records.encode_attempt, records.decode_attempt, ATTEMPT),
    "revision": (records.encode_revision, records.decode_webhooks, REVISION),
    "pending_revision": (records.encode_revision, records.decode_webhooks, WebhookRevision("uid", "adults", 5, 10, SPEC, [], 1, 2)),
    "replaying_revision": (
        records.encode_revision,
        records.decode_webhooks,
        WebhookRevision("uid", "adults", 6, 11, SPEC, [], 1, 2, snapshot=3, replay=PastReplay("rpl_1", 2**50, 2**40, -2, 3)),
    ),
    "since": (records.encode_since, records.decode_webhooks, WebhookSince("adults", 5, Origin(1, 3, 2**40))),
    "status": (records.encode_status, records.decode_webhooks, WebhookStatus("uid", "adults", 9, State.DISABLED, "410", 3)),
    "replay": (
        encode_replay,
        records.decode_webhooks,
        Replay(
            "rpl_1", "adults", "uid", 7, (3, 2**40), (9, 9), (9, 9), (4, 5), 12, 3, ReplayState.CANCELLED, 4, 8, Selected("a == 1", ("1",))
        ),
    ),
    "past_replay": (
        encode_replay,
        records.decode_webhooks,
        Replay("rpl_1", "adults", "uid", 7, (9,), (9,), (9,), (), 12, 3, ReplayState.RUNNING, first_txn=2**50),
    ),
    "backfill_progress": (encode_backfill, records.decode_webhooks, BackfillProgress("adults", "uid", 3, 2**40)),
    "backfill_end": (encode_backfill, records.decode_webhooks, BackfillEnd("adults", "uid", Origin(1, 3, 2**40))),
    "backfill_ready": (encode_backfill, records.decode_webhooks, BackfillReady("adults", "uid", (3, 2**40))),
    "gap": (
        encode_gap,
        records.decode_webhooks,
        Gap("adults", "uid", 4, 3, 5, 2**40, 2, is_followed=True, collections=("people", "pets"), noted_us=7, before_txn=2**50),
    ),
    "installation": (records.encode_installation, records.decode_webhooks, Installation(1, "a", "b")),
    "notice": (records.encode_notice, records.decode_activity, NOTICE),
    "parked": (records.encode_parked, records.decode_parked, Parked("uid", 3, 2**40, b"people/\xff", 4, 1_790_000_000_000_000)),
    "down": (records.encode_parked, records.decode_parked, Down("uid", 1_790_000_000_000_000)),
}
OLD_BYTES = json.loads((Path(__file__).parents[1] / "golden" / "records.json").read_text())


def test_a_delivery_says_which_trigger_fired():
    """The first one adds nothing to the bytes; another one comes back, and what is no number is refused."""
    delivery = Delivery("uid", 4, Match.ENTER, CHANGE, trigger=99)
    data = records.encode_delivery(delivery)
    assert delivery == records.decode_delivery(data)
    with pytest.raises(BadRecord, match="is no number of a trigger"):
        records.decode_delivery(data.replace(b"enter:99", b"enter:x9"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_record_comes_back_as_it_was(name):
    """Encoding and decoding lose nothing."""
    encode, decode, record = EXAMPLES[name]
    assert record == decode(encode(record))


@pytest.mark.parametrize(("name", "version"), [(name, version) for name, versions in OLD_BYTES.items() for version in versions])
def test_bytes_that_were_ever_written_stay_readable(name, version):
    """The bytes are kept from the first version on; add to the file, never change it."""
    _, decode, record = EXAMPLES[name]
    assert record == decode(bytes.fromhex(OLD_BYTES[name][version]))


def test_every_record_has_old_bytes():
    """A new kind of record must be added to the file."""
    assert EXAMPLES.keys() == OLD_BYTES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_bytes_that_are_cut_or_too_long_are_refused(name):
    """Never an exception of another kind, never half a record."""
    encode, decode, record = EXAMPLES[name]
    data = encode(record)
    for bad in [*(data[:length] for length in range(len(data))), data + b"x"]:
        with pytest.raises(BadRecord) as error:
            decode(bad)
        assert error.value.reason in (Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.INVALID)


def test_wire_format_needs_a_registry_that_knows_the_schema():
    """With the writer's schema the record is read, without it is dead-lettered as unknown-schema."""
    record = EXAMPLES["mutation"][2]
    data = b"\x00\x00\x00\x00\x2a" + records.encode_mutation(record)[10:]
    assert record == records.decode_mutation(None, data, {42: records.MUTATION.newest}.__getitem__)
    nothing: dict[int, Any] = {}
    for schema_by_id in (None, nothing.__getitem__):
        with pytest.raises(BadRecord) as error:
            records.decode_mutation(None, data, schema_by_id)
        assert Reason.UNKNOWN_SCHEMA == error.value.reason


def test_a_secret_is_not_in_the_text_of_a_record():
    """Records may be logged."""
    revision = EXAMPLES["revision"][2]
    assert "whsec_x" not in repr(revision)
    assert "example.com" not in repr(revision)
