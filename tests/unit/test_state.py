"""Rules of the document store and its fold."""

import pytest

from schemas.changes import Change, PassedMark
from schemas.errors import Fatal
from schemas.positions import Origin
from streams.documents import Document, Progress
from streams.state import CACHE_BYTES, WRITE_BUFFERS_BYTES_MAX, Documents, Fold, _cache


def change(version, value, *, offset, id_="1", old=None, via=None):
    return Change("c", id_, version * 10, version, old, value, Origin(0, 0, offset), 1, via or {})


@pytest.fixture
def documents(tmp_path):
    documents = Documents(tmp_path / "0", "topic-1")
    yield documents
    documents.close()


def test_what_was_written_is_there_after_a_reopening(tmp_path):
    """Documents, progress, position and count."""
    documents = Documents(tmp_path / "0", "topic-1")
    progress = Progress(Origin(0, 0, 7), 99, {2: 5})
    documents.write(
        [(change(1, b"{}", offset=6), 3), (change(2, None, offset=7, old=b"{}"), 4), (change(1, b"[]", offset=7, id_="2"), 5)], progress, 6
    )
    documents.close()
    again = Documents(tmp_path / "0", "topic-1")
    assert (progress, 6, 1) == (again.meta.progress, again.meta.position, again.meta.documents)
    assert Document(2, None) == again.document("c/1")
    assert Document(1, b"[]") == again.document("c/2")
    assert again.document("c/3") is None
    again.close()


def test_a_store_of_another_topic_is_made_anew(tmp_path):
    """It is only a cache."""
    documents = Documents(tmp_path / "0", "topic-1")
    documents.write([(change(1, b"{}", offset=6), 3)], Progress(Origin(0, 0, 7)), 4)
    documents.close()
    other = Documents(tmp_path / "0", "topic-2")
    assert (0, 0, None) == (other.meta.position, other.meta.documents, other.document("c/1"))
    other.close()


def test_a_folder_has_one_owner(tmp_path, documents):
    """Two processes on one folder would undo each other's writes."""
    with pytest.raises(Fatal, match="--dir"):
        Documents(tmp_path / "0", "topic-1")


def test_the_fold_keeps_the_highest_version(documents):
    """An older copy behind a newer one changes nothing, and is reported so that the newest is written again."""
    fold = Fold(documents)
    for offset, (version, value) in enumerate([(1, b"1"), (2, b"2"), (3, b"3"), (2, b"2")]):
        fold.take(change(version, value, offset=version), offset)
    fold.write(4)
    assert Document(3, b"3") == documents.document("c/1")
    assert {"c/1": 2} == fold.behind
    assert Progress(Origin(0, 0, 3), 30) == documents.meta.progress


def test_an_older_copy_is_found_behind_a_stored_change_too(documents):
    """The newest may have been folded the last time."""
    documents.write([(change(3, b"3", offset=3), 7)], Progress(Origin(0, 0, 3), 30), 8)
    fold = Fold(documents)
    fold.take(change(2, b"2", offset=2), 8)
    fold.write(9)
    assert {"c/1": 7} == fold.behind
    assert 1 == documents.meta.documents


def test_a_copy_of_the_newest_repairs_what_was_behind(documents):
    """After it there is nothing to write again."""
    fold = Fold(documents)
    for offset, version in enumerate([3, 2, 3]):
        fold.take(change(version, b"x", offset=version), offset)
    fold.write(3)
    assert {} == fold.behind


def test_the_store_stays_in_front_of_an_older_copy(documents):
    """Who ends before the newest was written again finds the copy again; once a newer one follows, there is nothing to find."""
    fold = Fold(documents)
    fold.take(change(3, b"3", offset=3), 7)
    fold.take(change(2, b"2", offset=2), 8)
    fold.write(10)
    assert 8 == documents.meta.position
    again = Fold(documents)
    again.take(change(2, b"2", offset=2), 8)
    assert {"c/1": 7} == again.behind
    again.take(change(3, b"3", offset=3), 9)
    again.write(10)
    assert ({}, 10) == (again.behind, documents.meta.position)


def test_the_fold_takes_the_vector_and_marks(documents):
    """Via by the highest of each partition; a mark moves the origin."""
    fold = Fold(documents)
    fold.take(change(1, b"1", offset=1, via={1: 5}), 0)
    fold.take(change(2, b"2", offset=2, via={1: 4, 2: 9}), 1)
    fold.take(PassedMark(8, Origin(0, 0, 6)), 2)
    fold.write(3)
    assert Progress(Origin(0, 0, 6), 20, {1: 5, 2: 9}) == documents.meta.progress


def test_a_flood_of_documents_stays_in_the_memory_that_all_partitions_share(tmp_path):
    """Write buffers and cache fill once, and no further."""
    stores = [Documents(tmp_path / str(partition), "topic-1") for partition in range(3)]
    for first in range(0, 27_000, 100):
        changes = [(change(1, b"x" * 4_000, offset=number, id_=str(number % 9_000)), number) for number in range(first, first + 100)]
        store = stores[first // 100 % 3]
        known = [store.document(one.key) is not None for one, _ in changes]
        assert all(known) == (first >= 9_000)
        store.write(changes, Progress(), first)
    buffers = [store._rows.property_int_value("rocksdb.cur-size-all-mem-tables") or 0 for store in stores]
    assert 0 < sum(buffers) <= WRITE_BUFFERS_BYTES_MAX
    assert CACHE_BYTES / 2 < _cache.get_usage() <= 1.05 * CACHE_BYTES
    for store in stores:
        store.close()
