"""
A world in memory: topics, commits and clock, which a crash does not take away, and what users do to them.

Beside it: streams workers (workers.py) and sinks (sinks.py), which run a step at a time (processes.py), receivers (receivers.py), and what
must have come of it all (oracle.py). Every decision is the project's own.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from connectors.webhook.offsets import Entry, Offsets, Seen, Start, decode
from connectors.webhook.ownership import Jump
from schemas.changes import Change
from schemas.deliveries import Delivery
from schemas.keys import partition_of
from schemas.mutations import MARK_KEY, Mark
from schemas.positions import Origin
from schemas.records import decode_change, decode_delivery, encode_mark, encode_revision
from schemas.topics import Record, Topics
from schemas.webhooks import DeliverySettings, Retry, State, WebhookRevision, WebhookSpec
from streams.backfill import WINDOW_US
from tests.simulation.oracle import Made
from tests.simulation.processes import Steps
from tests.simulation.receivers import Receivers
from tests.simulation.topics import DEAD_LETTERS, Log

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

    from tests.simulation.sinks import Sink

Item = TypeVar("Item")

RETRY = Retry(schedule=("0s", "3s", "20s", "50s"), jitter=0.2, disable_after="365d")
TICK_US = 3_000  # the broker's clock goes on so much every third record of a partition
SLEEP_S_MAX = 25.0
YOUNG_RECORDS = 15  # in a partition of `changes`, are not compacted
STUTTER_SHARE = 0.15  # of the looks at a clock
STUTTER_S_MAX = 3.0
SLEEPS_S = (0.0, 0.01, 0.1, 0.5)
HURRY = 0.3  # of the times that somebody sleeps it is until his next timer


class Chance(random.Random):
    """The same, in a fraction of the time: a run asks for ten thousand numbers."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        assert step == 1
        return int(self.random() * start) if stop is None else start + int(self.random() * (stop - start))

    def randint(self, a: int, b: int) -> int:
        return a + int(self.random() * (b - a + 1))

    def choice(self, seq: SupportsLenAndGetItem[Item]) -> Item:
        return seq[int(self.random() * len(seq))]


@dataclass
class Rewind:
    """One that was asked for: where the lane had come to, and how much was settled by then."""

    name: str
    jump: Jump
    reached: int
    settled: int
    is_running: bool = True


class World:
    """
    One seed is one world.

    lag_s:       at most so much time goes by between two looks at a clock; seconds where it ``stutters``.
    parked:      the topic, compacted.
    wanted:      which sink the group wants to have a lane. owners: who has it. members: whom it knows by that number.
    made:        start and time of creation (µs since 1970) of each webhook.
    horizon_us:  what was appended before it may have been compacted.
    hurry:       how often who sleeps does so until his next timer.
    """

    def __init__(self, seed: int, partitions: int = 2) -> None:
        self.rng = Chance(seed)
        self.topics = Topics("t.", partitions)
        self.partitions = partitions
        self.mutations = [Log() for _ in range(partitions)]
        self.changes = [Log() for _ in range(partitions)]
        self.webhooks = Log()
        self.lanes: dict[str, Log] = defaultdict(Log)
        self.commits: dict[tuple[str, int], int] = defaultdict(int)
        self.lane_commits: dict[str, tuple[int, str]] = {}
        self.parked: dict[bytes, bytes] = {}
        self.receivers = Receivers(self.rng)
        self.now_s = 1_000.0
        self.lag_s = self.rng.choice((0.0, 0.001, 0.1))
        self.stutters = self.rng.random() < 0.7
        self.hurry = HURRY
        self.wanted: dict[str, int] = {}
        self.members: dict[int, Sink] = {}
        self.owners: dict[str, Sink | None] = {}
        self.jumps: dict[str, list[Jump]] = defaultdict(list)
        self.rewinds: list[Rewind] = []
        self.made: dict[str, tuple[str, int]] = {}
        self.revisions: dict[str, list[Made]] = defaultdict(list)
        self.horizon_us = 0
        self.violations: list[str] = []
        self.expired: set[str] = set()  # where parked deliveries stood that were removed before they were sent
        self.trace: list[str] = []
        self.pointers = self.backfilled = 0
        self._current: dict[str, WebhookRevision] = {}
        self._number = 0

    def tell(self, what: str) -> None:
        """For whoever reads what a seed has done."""
        self.trace.append(f"{self.now_s:9.2f}  {what}")

    # Topics.

    def read(self, log: Log, start: int = 0, at_most: int = 10**9) -> list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]]:
        """Offset, key, value and headers of the records from there on that compaction has left."""
        found: list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]] = []
        for offset in range(start, len(log.records)):
            record = log.records[offset]
            if record is not None:
                if len(found) >= at_most:
                    break
                found.append((offset, record[0] or b"", record[1] or b"", record[2]))
        return found

    def home(self, key: str) -> int:
        """The partition that a document belongs to."""
        return partition_of(key.encode(), self.partitions)

    def appended_us(self, offset: int) -> int:
        """The broker's clock when it took a mutation: several records in one tick."""
        return offset // 3 * TICK_US

    def delivery(self, name: str, offset: int) -> Delivery:
        """What stands in a lane."""
        record = self.lanes[name].records[offset] or self.lanes[name].removed[offset]
        return decode_delivery(record[1] or b"")

    def deliver(self, name: str, key: bytes, value: bytes) -> bool:
        """Into a lane; False: it is gone."""
        self.lanes[name].append(key, value)
        return True

    def written(self, record: Record) -> None:
        """What a sink's producer has sent is in its topic."""
        key = record.key or b""
        if record.topic == self.topics.parked.name:
            self.pointers += record.value is not None
            if record.value is None:
                self.parked.pop(key, None)
            else:
                self.parked[key] = record.value
        elif record.topic == DEAD_LETTERS and record.value is None:
            self.expired.add(dict(record.headers)["source"].decode())
        elif record.topic == DEAD_LETTERS:
            self.receivers.dead_lettered(decode_delivery(record.value or b""))
        else:
            self.webhooks.append(record.key, record.value)

    def compact(self) -> None:
        """Only what every matching agent has committed and every repair has had time for: the compaction lag is a week."""
        if any(start != "now" for start, _ in self.made.values()):
            return  # a backfill may be reading
        for partition, log in enumerate(self.changes):
            before = min(self.commits["changes", partition], max(0, len(log.records) - YOUNG_RECORDS))
            removable = [decode_change(value) for offset, _, value, _ in self.read(log) if offset < before]
            self.horizon_us = max([self.horizon_us, *(one.appended_us + 1 for one in removable if isinstance(one, Change))])
            log.compact(before)

    # Time.

    def read_clock(self) -> float:
        """The time, which has gone on since it was read last."""
        if self.stutters and self.rng.random() < STUTTER_SHARE:
            self.now_s += STUTTER_S_MAX * self.rng.random()
        elif self.lag_s:
            self.now_s += self.lag_s * self.rng.random()
        return self.now_s

    def sleep(self, due: float | None) -> None:
        """Nobody has anything to do for a while, or until a timer goes off."""
        if due is not None and self.rng.random() < self.hurry:
            self.now_s = max(self.now_s, min(due, self.now_s + SLEEP_S_MAX))
        else:
            self.now_s += self.rng.choice(SLEEPS_S)

    # What users do.

    def mutate(self, mutation: dict[str, object], *, wrong_partition: bool = False) -> None:
        """Any producer."""
        key = f"{mutation['collection']}/{mutation['id']}"
        partition = (self.home(key) + wrong_partition) % self.partitions
        self.mutations[partition].append(key.encode(), msgspec.json.encode(mutation))

    def put_webhook(self, name: str, query: str) -> Steps:
        """The API's protocol for a new revision, one effect a step."""
        start, created_us = self.made.setdefault(name, self._making())
        self.wanted.setdefault(name, self.rng.choice((1, 2)))
        before = self._current.get(name)
        spec = WebhookSpec(name, "http://x", collections=("c",), query=query, start=start, delivery=self._limits(), retry=RETRY)
        number, edit = (1, 1) if before is None else (before.revision + 1, before.edit + 1)
        replay = None if before is None else before.replay
        pending = WebhookRevision(name, name, number, edit, spec, [], created_us, created_us, replay=replay)
        since = yield from self._marks(pending)
        self._put(msgspec.structs.replace(pending, since=since))
        from_start = start != "now" and number == 1
        self.revisions[name].append(Made(number, query, tuple(-1 if from_start else origin.offset for origin in since)))
        self.tell(f"webhook {name}/{number} {query} from {start} since {[origin.offset for origin in since]}")

    def _marks(self, pending: WebhookRevision) -> Generator[None, None, list[Origin]]:
        """A revision that has no ``since`` yet, and its marks: where it begins in each partition."""
        offset = self.webhooks.append(pending.key.encode(), encode_revision(pending))
        yield
        since = []
        for partition, log in enumerate(self.mutations):
            since.append(Origin(0, partition, log.append(MARK_KEY, encode_mark(Mark(offset)))))
            yield
        return since

    def edit_webhook(self, name: str, *, is_paused: bool) -> None:
        """Another edit that selects the same."""
        before = self._current.get(name)
        if before is not None:
            spec = msgspec.structs.replace(before.spec, delivery=self._limits(), state=State.PAUSED if is_paused else State.ACTIVE)
            self._put(msgspec.structs.replace(before, spec=spec, edit=before.edit + 1))
            self.tell(f"webhook {name} is {spec.state}")

    def _put(self, revision: WebhookRevision) -> None:
        self._current[revision.name] = revision
        self.webhooks.append(revision.key.encode(), encode_revision(revision))

    def _limits(self) -> DeliverySettings:
        return DeliverySettings(concurrency=self.rng.choice((1, 2, 6)), rate_limit=self.rng.choice((None, None, 3.0)))

    def _making(self) -> tuple[str, int]:
        """A start, and a time of creation to which the documents of before the horizon are a snapshot."""
        last_us = min(self.appended_us(len(log.records)) for log in self.mutations)  # the partition whose clock is the slowest
        if last_us < self.horizon_us:
            return "now", WINDOW_US
        start = self.rng.choice(["now", "beginning", "beginning", f"txn:{self.rng.randint(0, last_us)}"])
        return start, WINDOW_US + self.rng.randint(self.horizon_us, last_us)

    def rewind(self, name: str) -> None:
        """Ask for one, from anywhere in the lane."""
        end = len(self.lanes[name].records)
        self._number += 1
        jump = Jump(number=self._number, replay=f"rpl_{self._number}", is_forward=False, to=(self.rng.randint(0, end),), until=(end,))
        running = [one.reached for one in self.rewinds if one.name == name and one.is_running]
        reached = max([self.lane_commits.get(name, (0, ""))[0], *running])
        self.rewinds.append(Rewind(name, jump, reached, len(self.receivers.settled)))
        self.jumps[name].append(jump)
        self.tell(f"rewind of {name} to {jump.to[0]} of {end}")

    def cancel(self, rewind: Rewind) -> None:
        """End it; only the last one leads on."""
        rewind.is_running = False
        self.jumps[rewind.name].remove(rewind.jump)
        if not any(one.is_running for one in self.rewinds if one.name == rewind.name):
            self._number += 1
            forward = Jump(number=self._number, replay=rewind.jump.replay, is_forward=True, to=(rewind.reached,), until=())
            self.jumps[rewind.name].append(forward)

    # How far it is.

    def is_at_rest(self) -> bool:
        """Whether nothing is left to do."""
        return (
            all(len(log.records) <= self.commits["mutations", p] for p, log in enumerate(self.mutations))
            and all(len(log.records) <= self.commits["changes", p] for p, log in enumerate(self.changes))
            and all(self.lane_commits.get(name, (0, ""))[0] >= len(log.records) for name, log in self.lanes.items())
            and all(self.owners.get(name) is not None for name in self.made)
            and not any(sink.is_busy for sink in self.members.values())
            and all(self._jumped(name) for name in self.jumps)
            and self._backfills_are_over()
        )

    def _jumped(self, name: str) -> bool:
        """Whether every jump of a lane was carried out."""
        offset, metadata = self.lane_commits.get(name, (0, ""))
        return all(metadata and decode(offset, metadata, name).rewind >= jump.number for jump in self.jumps[name])

    def _backfills_are_over(self) -> bool:
        """Whether every webhook that started in the past is live in every partition."""
        ended = {key.decode() for _, key, _, _ in self.read(self.webhooks) if key.endswith(b"/end")}
        past = [name for name, (start, _) in self.made.items() if start != "now"]
        return {(name, str(partition)) for name in past for partition in range(self.partitions)} <= {_part(key) for key in ended}

    def sent(self, rewind: Rewind) -> set[tuple[str, int, str]]:
        """What a rewind goes over, without repeats, also of what stands before it: key, version, match."""
        [begin], [until] = rewind.jump.to, rewind.jump.until
        offsets, found = Offsets(Start()), set()
        for at, _, value, _ in self.read(self.lanes[rewind.name], 0, until):
            delivery = decode_delivery(value)
            if offsets.read(Entry(at, delivery.order)) is Seen.NEW and at >= begin:
                found.add((delivery.change.key, delivery.change.version, delivery.match.value))
        return found


def _part(key: str) -> tuple[str, str]:
    """Webhook and partition of a backfill's end."""
    name, _, _, partition, _ = key.split("/")
    return name, partition
