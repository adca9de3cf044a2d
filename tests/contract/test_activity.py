"""The activity log: the same rules on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.activity.database import Database
from connectors.activity.matching import selects
from connectors.activity.model import FAILED, ActivityUnavailable, AttemptFilters, LetterFilters
from connectors.activity.postgres import PostgresDatabase
from connectors.activity.ranks import HOUR_US
from connectors.activity.sqlite import SqliteDatabase
from connectors.activity.statements import SCAN_MAX
from connectors.activity.store import Activity
from schemas.attempts import Outcome, attempt_id
from schemas.dead_letters import Claim, Settled
from schemas.errors import Fatal
from schemas.positions import Position
from schemas.resends import Resend
from tests import postgres
from tests.activity import ATTEMPTS, LETTERS, START_US, attempt, batch, letter

ANY = AttemptFilters()
ALL = LetterFilters()
DAY_US = 24 * HOUR_US

Opened = Callable[[], Database]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres.server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Opens the same, at first empty, database, as often as one likes."""
    databases: list[Database] = []

    def kept(database: Database) -> Database:
        databases.append(database)
        return database

    if request.param == "sqlite":
        yield lambda: kept(SqliteDatabase(tmp_path / "activity/log.sqlite3"))
        for database in databases:
            database.close()
    else:
        with postgres.schema(request.getfixturevalue("server")) as url:
            yield lambda: kept(PostgresDatabase(url))
            for database in databases:
                database.close()


def log(database: Database, *, keep_us: int = 7 * DAY_US, bytes_max: int = 10**9) -> Activity:
    activity = Activity(database, letters_topic=LETTERS[0], keep_us=keep_us, bytes_max=bytes_max)
    for topic, partition in (ATTEMPTS, LETTERS):
        activity.begin(topic, "id-1", partition + 1)
    return activity


@pytest.fixture
def activity(opened: Opened) -> Activity:
    return log(opened())


def found(activity: Activity, filters: AttemptFilters = ANY, *, limit: int = 50) -> list[str]:
    """The ids of every page."""
    ids: list[str] = []
    before = None
    while True:
        page = activity.attempts(filters, limit=limit, before=before)
        ids += [one.id for one in page.items]
        assert len(page.items) <= limit
        if (before := page.cursor) is None:
            return ids


def test_an_attempt_comes_back_as_it_was(activity):
    """In full, by its id; another id finds nothing."""
    activity.add(batch(attempt(1)))
    assert attempt(1) == activity.attempt(attempt(1).id)
    assert [attempt(1)] == list(activity.attempts(ANY, limit=1).items)
    assert [None, None] == [activity.attempt(id_) for id_ in (attempt_id(START_US + 1_000_000, 99), "att_1")]


def test_the_newest_comes_first(activity):
    """By their start, in whatever order they came."""
    made = [attempt(number) for number in (3, 1, 4, 0, 2)]
    activity.add(batch(*made))
    assert [attempt(number).id for number in (4, 3, 2, 1, 0)] == found(activity)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_pages_hold_every_attempt_once(activity, limit):
    """Also when others come in between."""
    activity.add(batch(*[attempt(number) for number in range(5)]))
    first = activity.attempts(ANY, limit=limit)
    activity.add(batch(attempt(9), first=5))
    ids = [one.id for one in first.items]
    before = first.cursor
    while before is not None:
        page = activity.attempts(ANY, limit=limit, before=before)
        ids, before = ids + [one.id for one in page.items], page.cursor
    assert [attempt(number).id for number in (4, 3, 2, 1, 0)] == ids


def test_attempts_of_one_microsecond_are_all_kept(activity):
    """Even when their ids end alike."""
    made = [attempt(1, id=attempt_id(START_US, number << 32 | 7)) for number in range(5)]
    activity.add(batch(*made))
    assert {one.id for one in made} == set(found(activity, limit=2))
    assert made == [activity.attempt(one.id) for one in made]


MIXED = [
    attempt(0),
    attempt(1, outcome=Outcome.RETRY),
    attempt(2, outcome=Outcome.DEAD, webhook="cars"),
    attempt(3, document="people/0"),
    attempt(4, webhook="cars"),
    attempt(5, outcome=Outcome.RETRY, response=None),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"webhook": "cars"}, {2, 4}),
        ({"outcomes": FAILED}, {1, 2, 5}),
        ({"outcomes": frozenset({Outcome.DEAD})}, {2}),
        ({"outcomes": frozenset({Outcome.DELIVERED})}, {0, 3, 4}),
        ({"outcomes": frozenset(Outcome)}, {0, 1, 2, 3, 4, 5}),
        ({"webhook": "cars", "outcomes": FAILED}, {2}),
        ({"document": "people/0"}, {0, 3}),
        ({"document": "people/0", "webhook": "cars"}, set()),
        ({"status": 503}, {1, 2}),
        ({"status": 200}, {0, 3, 4}),
        ({"status": 200, "outcomes": FAILED}, set()),
        ({"since_us": START_US + 4_000_000}, {4, 5}),
        ({"until_us": START_US + 2_000_000}, {0, 1}),
        ({"since_us": START_US + 1_000_000, "until_us": START_US + 2_000_001}, {1, 2}),
        ({"q": "unavailable"}, {1, 2, 5}),
        ({"q": "BUSY"}, {1, 2}),
        ({"q": "example.com/HOOK"}, {0, 1, 2, 3, 4, 5}),
        ({"q": "people/3"}, set()),
        ({"q": "susan", "webhook": "cars", "outcomes": FAILED}, {2}),
        ({"q": "%"}, set()),
        ({"q": "'"}, set()),
    ],
)
@pytest.mark.parametrize("limit", [2, 50])
def test_filters_select(activity, filters: dict[str, Any], expected: set[int], limit: int):
    """Each alone and together, page by page; and the same for attempts that come by."""
    assert expected == {number for number, one in enumerate(MIXED) if selects(AttemptFilters(**filters), one)}
    activity.add(batch(*MIXED))
    selected = found(activity, AttemptFilters(**filters), limit=limit)
    assert [MIXED[number].id for number in sorted(expected, reverse=True)] == selected


def test_a_search_goes_on_where_it_has_stopped_looking(activity):
    """A page looks through a bounded part; an empty one with a cursor is not the last."""
    wanted = attempt(0, document="people/needle")
    activity.add(batch(wanted, *[attempt(1 + number % 3, id=attempt_id(START_US + 1 + number, 0)) for number in range(SCAN_MAX)]))
    filters = AttemptFilters(q="needle")
    first = activity.attempts(filters, limit=50)
    assert ([], True) == (list(first.items), first.cursor is not None)
    assert [wanted.id] == found(activity, filters)


def test_each_attempt_is_taken_once(activity, opened):
    """A batch that is read again adds nothing; neither does another process that is behind."""
    other = log(opened())
    assert [2, 0, 0] == [one.add(batch(attempt(0), attempt(1))) for one in (activity, activity, other)]
    assert [1, 0] == [one.add(batch(attempt(1), attempt(2), first=1)) for one in (other, activity)]
    assert [attempt(number).id for number in (2, 1, 0)] == found(activity)
    assert 3 == activity.position(ATTEMPTS)


def test_positions_never_go_back(activity):
    """Whoever is behind does not take another one with it."""
    activity.add(batch(attempt(0), attempt(1), attempt(2)))
    activity.add(batch(attempt(0)))
    assert 3 == activity.position(ATTEMPTS)


def test_it_goes_on_after_a_restart(opened):
    """Attempts and positions are there when the database is opened again."""
    log(opened()).add(batch(attempt(0)))
    again = Activity(opened(), letters_topic=LETTERS[0], keep_us=DAY_US, bytes_max=10**9)
    assert {ATTEMPTS: 1, (ATTEMPTS[0], 1): 0} == again.begin(ATTEMPTS[0], "id-1", 2)
    assert [attempt(0).id] == found(again)


def test_a_topic_that_was_made_anew_is_read_from_its_start(activity):
    """What is on record of the one before stays; its dead letters can no longer be redriven, and go."""
    activity.add(batch(attempt(0)))
    activity.add(batch(letter(0), place=LETTERS))
    assert [{ATTEMPTS: 0}, {LETTERS: 0}] == [activity.begin(topic, "id-2", 1) for topic, _ in (ATTEMPTS, LETTERS)]
    activity.add(batch(attempt(1)))
    assert [attempt(1).id, attempt(0).id] == found(activity)
    assert [] == list(activity.letters(ALL, limit=1).items)


def trimmed(activity: Activity, now_us: int) -> list[str]:
    while activity.trim(now_us):
        pass
    return found(activity)


def test_what_is_too_old_goes(opened):
    """By the hour: nothing is forgotten before its time."""
    activity = log(opened(), keep_us=2 * HOUR_US)
    made = [attempt(hour * 3_600) for hour in range(5)]
    activity.add(batch(*made))
    assert [made[4].id, made[3].id, made[2].id] == trimmed(activity, made[4].started_us)
    assert [] == trimmed(activity, made[4].started_us + 4 * HOUR_US)


def test_what_is_too_much_goes(opened):
    """The oldest first, until the rest is within the bound."""
    activity = log(opened(), bytes_max=2_500)
    made = [attempt(hour * 3_600) for hour in range(5)]
    activity.add(batch(*made))
    left = trimmed(activity, made[4].started_us)
    assert [one.id for one in reversed(made)][: len(left)] == left
    assert 0 < len(left) < 5
    assert left == trimmed(activity, made[4].started_us)


def test_a_resend_tells_how_far_it_is(activity):
    """A delivery counts once, however often it was tried, when it is delivered or given up."""
    tries = [
        attempt(0, replay="rpl_1", outcome=Outcome.RETRY, delivery_id="msg_1"),
        attempt(1, replay="rpl_1", delivery_id="msg_1"),
        attempt(2, replay="rpl_1", delivery_id="msg_1"),
        attempt(3, replay="rpl_1", outcome=Outcome.DEAD, delivery_id="msg_2"),
        attempt(4, replay="rpl_1", outcome=Outcome.RETRY, delivery_id="msg_3"),
        attempt(5, replay="rpl_2", delivery_id="msg_4"),
    ]
    resend = Resend("rpl_1", "adults", 3, START_US)
    assert activity.progress("rpl_1") is None
    activity.add(batch(resend, *tries))
    progress = activity.progress("rpl_1")
    assert progress is not None
    assert (resend, 2, 1, tries[3].started_us + 1_500) == (progress.resend, progress.finished, progress.delivered, progress.ended_us)


LETTERS_MIXED = [
    letter(0),
    letter(1, reason="exhausted", webhook="adults", source="livehook.deliveries.adults/0/3"),
    letter(2, key=None, value=None),
    letter(3, reason="exhausted", webhook="cars"),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [3, 2, 1, 0]),
        ({"reason": "exhausted"}, [3, 1]),
        ({"webhook": "adults"}, [1]),
        ({"reason": "invalid", "since_us": START_US + 1}, [2]),
        ({"reason": "nonsense"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 50])
def test_dead_letters_newest_first(activity, filters: dict[str, Any], expected: list[int], limit: int):
    """By reason, webhook and time, page by page."""
    activity.add(batch(*LETTERS_MIXED, place=LETTERS))
    items = []
    beyond: Position | None = None
    while True:
        page = activity.letters(LetterFilters(**filters), limit=limit, beyond=beyond)
        items += page.items
        if page.cursor is None:
            break
        beyond = page.items[-1].place
    assert [LETTERS_MIXED[number] for number in expected] == items
    oldest_first = activity.letters(LetterFilters(**filters), limit=50, oldest_first=True)
    assert items == list(reversed(oldest_first.items))


def test_a_large_value_is_whole_only_in_its_own_answer(activity):
    """The list has the start of it, and says so."""
    whole = letter(0, value=b"x" * 100_000)
    activity.add(batch(whole, place=LETTERS))
    [listed] = activity.letters(ALL, limit=1).items
    assert (True, 16_384) == (listed.truncated, len(listed.value or b""))
    assert whole == activity.letter(Position(0, 0))
    assert activity.letter(Position(0, 1)) is None


def test_a_settled_letter_is_gone(activity):
    """For good: one that is read again stays gone, for its position is below the one on record."""
    activity.add(batch(letter(0), letter(1), place=LETTERS))
    activity.add(batch(Settled("0-0", "discarded", START_US), place=LETTERS, first=2))
    activity.add(batch(letter(0), letter(1), place=LETTERS))
    assert [letter(1)] == list(activity.letters(ALL, limit=9).items)


def claim(token: str, *, at_s: float, offset: int = 7) -> Claim:
    return Claim("0-0", token, "livehook.mutations", 1, offset, START_US + int(at_s * 1_000_000))


def test_the_first_claim_holds_until_it_is_old(activity):
    """Who takes over goes on where the first one began."""
    claims = [claim("a", at_s=0), claim("b", at_s=59, offset=9), claim("c", at_s=60, offset=9), claim("d", at_s=61, offset=9)]
    activity.add(batch(letter(0), *claims, Settled("no letter", "redriven", 0), place=LETTERS))
    held = activity.letter(Position(0, 0))
    assert held is not None
    assert claim("c", at_s=60, offset=7) == held.claim


def test_a_newer_log_is_left_alone(opened):
    """A Livehook that does not know the tables says so instead of guessing."""
    database = opened()
    log(database)
    if isinstance(database, SqliteDatabase):
        with sqlite3.connect(database._path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        with database.writing() as session:
            session.run("INSERT INTO livehook_migrations VALUES (99)")
    with pytest.raises(Fatal, match="version 99"):
        log(opened())


def test_an_older_log_is_brought_up_to_date(opened):
    """With what it holds."""
    database = opened()
    log(database).add(batch(attempt(0), attempt(1, outcome=Outcome.DEAD)))
    with database.writing() as session:
        session.run("DROP INDEX attempts_dead")
        session.run("DROP INDEX attempts_webhook_dead")
        session.run(
            "PRAGMA user_version = 1" if isinstance(database, SqliteDatabase) else "DELETE FROM livehook_migrations WHERE version > 1"
        )
    again = opened()
    dead = AttemptFilters(outcomes=frozenset({Outcome.DEAD}))
    assert [attempt(1, outcome=Outcome.DEAD)] == list(log(again).attempts(dead, limit=9).items)
    with again.writing() as session:
        session.run("DROP INDEX attempts_dead")  # is there


def test_a_database_that_cannot_be_used_says_so(tmp_path):
    """And does not show its password."""
    (tmp_path / "file").write_text("")
    for database in (SqliteDatabase(tmp_path / "file/log"), PostgresDatabase("postgresql://me:secret@127.0.0.1:1/none")):
        with pytest.raises(ActivityUnavailable) as caught:
            log(database)
        assert "secret" not in str(caught.value)
