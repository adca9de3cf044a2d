"""
What the simulation takes for granted of a partition of Kafka, as a suite that runs against the simulated one (test_topics.py) and against
the real one (tests/integration/test_topics.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

Headers = Sequence[tuple[str, bytes]]
Row = tuple[int, bytes, bytes, list[tuple[str, bytes]]]
"""Offset, key, value and headers; no key and no value are empty."""


class Partition(ABC):
    """One partition of a topic that is compacted when a test says so, and one group's commit in it."""

    @abstractmethod
    def append(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """One more record; its offset, when it is acknowledged."""

    @abstractmethod
    def read(self, start: int = 0) -> list[Row]:
        """What a consumer gets that begins there, up to the present end."""

    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """Where it begins and where it ends."""

    @abstractmethod
    def remove(self, before: int) -> None:
        """As retention does."""

    @abstractmethod
    def compact(self) -> None:
        """Until of each key that was written so far only the last record is left."""

    @abstractmethod
    def make_anew(self) -> None:
        """The topic is deleted and made again under its name."""

    @abstractmethod
    def commit(self, offset: int, metadata: str) -> None:
        """What the group says of it."""

    @abstractmethod
    def committed(self) -> tuple[int, str] | None:
        """What it said last."""


class PartitionRules:
    """The suite; ``partition`` is a fixture of whoever runs it."""

    @pytest.mark.timeout(150)
    def test_offsets_count_up_and_records_stay_as_they_were(self, partition: Partition) -> None:
        """From 0, key, value and headers byte for byte, without a key and without a value too."""
        written: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
            (b"a", b"1", []), (b"a", b"\x00\xff", [("x", b"1"), ("x", b"2")]), (None, b"3", []), (b"b", None, [("y", b"")]),
        ]  # fmt: skip
        assert [0, 1, 2, 3] == [partition.append(*one) for one in written]
        expected = [(offset, key or b"", value or b"", headers) for offset, (key, value, headers) in enumerate(written)]
        assert (expected, (0, 4)) == (partition.read(), partition.bounds())

    @pytest.mark.timeout(150)
    def test_a_reader_begins_where_it_wants(self, partition: Partition) -> None:
        """In the middle, at the end, where it gets nothing before something comes."""
        for number in range(5):
            partition.append(b"a", b"%d" % number)
        assert [3, 4] == [row[0] for row in partition.read(3)]
        assert [] == partition.read(5)
        partition.append(b"b", b"new")
        assert [(5, b"b", b"new", [])] == partition.read(5)

    @pytest.mark.timeout(150)
    def test_what_was_removed_is_passed_over(self, partition: Partition) -> None:
        """The log begins later, whoever begins before it gets what is left, and offsets go on; when nothing is left, too."""
        for number in range(4):
            partition.append(b"k%d" % number, b"v")
        partition.remove(2)
        assert ([2, 3], (2, 4)) == ([row[0] for row in partition.read(0)], partition.bounds())
        partition.remove(4)
        assert ([], (4, 4)) == (partition.read(0), partition.bounds())
        assert 4 == partition.append(b"k", b"v")
        assert [4] == [row[0] for row in partition.read(0)]

    @pytest.mark.timeout(150)
    def test_compaction_keeps_the_last_record_of_each_key_in_its_place(self, partition: Partition) -> None:
        """Offsets stay and leave holes, a last record without a value stays; who begins in a hole gets what follows."""
        for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"b", None), (b"a", b"3")):
            partition.append(key, value)
        partition.compact()
        kept: list[Row] = [(3, b"c", b"1", []), (4, b"b", b"", []), (5, b"a", b"3", [])]
        found = partition.read()
        assert kept == found[: len(kept)]
        assert partition.bounds()[1] >= 6
        assert kept == partition.read(1)[: len(kept)]
        assert kept[1:] == partition.read(4)[: len(kept) - 1]

    @pytest.mark.timeout(150)
    def test_a_topic_that_is_made_anew_begins_at_0(self, partition: Partition) -> None:
        """Nothing of the one before is in it."""
        partition.append(b"a", b"1")
        partition.make_anew()
        assert ([], (0, 0)) == (partition.read(), partition.bounds())
        assert 0 == partition.append(b"b", b"2")

    @pytest.mark.timeout(150)
    def test_the_last_commit_holds(self, partition: Partition) -> None:
        """With its text; a lower one, too."""
        partition.append(b"a", b"1")
        assert partition.committed() is None
        for offset, metadata in ((1, "x"), (0, "y" * 4_000)):
            partition.commit(offset, metadata)
            assert (offset, metadata) == partition.committed()
