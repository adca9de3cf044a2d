"""
The golden log: every version of the program gives the same bytes for the same log (docs/decisions/0002).

``tests/golden/log.json`` holds mutations and webhooks, and the changes and deliveries that they must come to, byte for byte. A difference
means that two versions side by side would disagree about documents: add a case to the file, never change one. Add cases with ``python -m
tests.unit.test_golden_log``, which fills in what is missing and refuses to touch what is there.
"""

import json
from pathlib import Path

from schemas.changes import Change
from schemas.positions import Position
from schemas.records import decode_webhooks, encode_change, encode_delivery, encode_passed_mark
from schemas.webhooks import WebhookRevision
from streams.documents import MutationRecord, Progress, apply_all
from streams.matching import SimpleStandingQueries, match, standing_of

FILE = Path(__file__).parents[1] / "golden" / "log.json"


def outcome(case):
    """What a log comes to: dead letters, forwarded records, changes and deliveries, in order, as text."""
    queries = SimpleStandingQueries()
    for record in case["webhooks"]:
        revision = decode_webhooks(bytes.fromhex(record))
        assert isinstance(revision, WebhookRevision)
        queries.put(standing_of(revision, revision.name, revision.since or ()))
    records = [
        MutationRecord(
            Position(case["partition"], offset),
            None if one["key"] is None else bytes.fromhex(one["key"]),
            None if one["value"] is None else bytes.fromhex(one["value"]),
            one["appendedUs"],
            [(name, value.encode()) for name, value in one["headers"]],
        )
        for offset, one in enumerate(case["mutations"])
    ]
    applied = apply_all(records, Progress(), lambda _: None, epoch=0, partitions=case["partitions"])
    changes, deliveries = [], []
    for change in applied.changes:
        if not isinstance(change, Change):
            changes.append(encode_passed_mark(change).hex())
            continue
        changes.append(encode_change(change).hex())
        deliveries += [[one.lane, delivery.webhook_id, encode_delivery(delivery).hex()] for one, delivery in match(queries, change)]
    return {
        "dead": [[record.position.offset, dead.reason.value] for record, dead in applied.dead],
        "forwarded": [[one.mutation.key, one.partition, one.via.offset] for one in applied.forwarded],
        "changes": changes,
        "deliveries": deliveries,
    }


def test_the_same_log_comes_to_the_same_bytes():
    """In every version of the program."""
    cases = json.loads(FILE.read_text())
    assert len(cases) >= 2
    for name, case in cases.items():
        assert case["expected"] == outcome(case), name


if __name__ == "__main__":
    known = json.loads(FILE.read_text())
    for case in known.values():
        case.setdefault("expected", outcome(case))
    FILE.write_text(json.dumps(known, indent=1) + "\n")
