"""``livehook attempts``, ``resend``, ``dead-letters`` as docs/reference/cli.md has them: on an API with a fake Kafka, in this process."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from livehook import cli, health
from livehook.api.app import create_app
from livehook.api.testing import FakeKafka, fake_services
from livehook.commands.replay import place_of
from schemas.attempts import Outcome
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.records import encode_attempt, encode_delivery
from schemas.topics import Record, Topics
from tests.activity import attempt

TOPICS = Topics(partitions=4)
HOOK = "http://127.0.0.1:9999/hook"


@pytest.fixture
def kafka(tmp_path):
    kafka = FakeKafka(TOPICS, tmp_path / "log.sqlite3")
    yield kafka
    kafka.fed.activity.close()


@pytest.fixture
def address(kafka):
    """Of an API in a thread of its own."""
    sock = health.listen("127.0.0.1", 0, environment={})
    started, ending = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve():
        serving = health.Serving(create_app(fake_services(kafka)), sock)
        serving.start()
        started.set()
        await ending.wait()
        await serving.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait(10)
    yield health.address(sock)
    loop.call_soon_threadsafe(ending.set)
    thread.join(20)
    loop.close()


@pytest.fixture
def run(address, capsys, monkeypatch, tmp_path):
    """Runs a command and gives exit code, stdout and stderr."""
    monkeypatch.setenv("LIVEHOOK_API", address)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    run("webhook", "create", "adults", "--collection", "people", "--url", HOOK)
    return run


def append(kafka, topic, key, value, headers=()):
    [offset] = asyncio.run(kafka.send([Record(topic, key, value, headers, partition=0)]))
    return offset


def attempted(kafka, *attempts):
    for one in attempts:
        append(kafka, TOPICS.attempts.name, one.webhook.encode(), encode_attempt(one))


def dead(kafka, value=b'{"method":"insert"}', *, key=b"people/a", source=b"livehook.mutations/0/7"):
    headers = [("reason", b"invalid"), ("detail", b"method must be \x1b[31mupsert"), ("source", source)]
    return f"0-{append(kafka, TOPICS.dead_letters.name, key, value, headers)}"


def test_attempts_in_a_table_and_as_json(run, kafka):
    """Newest first."""
    attempted(kafka, attempt(0), attempt(1, outcome=Outcome.RETRY))
    code, out, _ = run("attempts", "adults")
    heading, newest, oldest = out.splitlines()
    assert (0, "STARTED") == (code, heading.split()[0])
    assert (True, True) == (attempt(1).id in newest and "status: 503 Service Unavailable" in newest, attempt(0).id in oldest)
    items = json.loads(run("attempts", "adults", "--output", "json")[1])["items"]
    assert [attempt(1).id, attempt(0).id] == [item["id"] for item in items]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--failed"], {1}),
        (["cars"], {2}),
        (["--since", "2026-09-21T14:13:22Z"], {2, 3}),
        (["--since", "365d", "--until", "2026-09-21T14:13:21Z"], {0}),
        (["--document", "people/3"], {3}),
        (["--status", "503"], {1}),
        (["--q", "busy"], {1}),
        (["--limit", "2"], {3, 2}),
    ],
)
def test_attempts_by_flags(run, kafka, flags, expected):
    """As the API has them."""
    made = [attempt(0), attempt(1, outcome=Outcome.RETRY), attempt(2, webhook="cars"), attempt(3)]
    attempted(kafka, *made)
    items = json.loads(run("attempts", *flags, "--output", "json")[1])["items"]
    assert {made[number].id for number in expected} == {item["id"] for item in items}


def test_no_attempts(run):
    """Said on stderr; a wrong flag is wrong input."""
    assert (0, "", "no attempts\n") == run("attempts")
    assert (2, "") == run("attempts", "--since", "yesterday")[:2]


def test_following_prints_each_as_it_comes(run, kafka, monkeypatch, capsys):
    """An object a line, until Ctrl-C."""
    waits = iter(range(3))

    def sleep(_):
        number = next(waits, None)
        if number is None:
            raise KeyboardInterrupt
        attempted(kafka, attempt(number))

    attempted(kafka, attempt(9))
    monkeypatch.setattr("livehook.commands.attempts.time.sleep", sleep)
    with pytest.raises(SystemExit) as ended:
        run("attempts", "--follow", "--output", "json")
    shown = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert (130, [attempt(number).id for number in range(3)]) == (ended.value.code, shown)


def test_resend(run, kafka):
    """Says how many deliveries; an unknown attempt fails."""
    delivery = Delivery("whk_1", 1, Match.UPDATE, Change("people", "a", 1, 1, None, b"{}", Origin(0, 0, 1), 1))
    append(kafka, TOPICS.lane("adults").name, b"people/a", encode_delivery(delivery))
    tried = attempt(0, document="people/a", version=1, offset="0")
    attempted(kafka, tried)
    assert (0, "1 delivery is sent again as rpl_1\n", "") == run("resend", tried.id)
    assert (1, "", "the attempt att_nonsense is not there\n") == run("resend", "att_nonsense")


def test_dead_letters_list_and_show(run, kafka):
    """Without the terminal codes of whoever wrote them."""
    id_ = dead(kafka)
    code, out, _ = run("dead-letters", "list", "--reason", "invalid")
    assert (0, True, False) == (code, f"\n{id_}" in out and "people/a" in out, "\x1b" in out)
    assert (0, "", "no dead letters\n") == run("dead-letters", "list", "--webhook", "adults")
    assert {"method": "insert"} == json.loads(run("dead-letters", "show", id_, "--output", "json")[1])["value"]
    assert "reason: invalid" in run("dead-letters", "show", id_)[1]


def test_dead_letters_redrive_and_discard(run, kafka):
    """By id or by filter; what cannot be redriven is told, and the exit code is 1."""
    first, second, third, lost = dead(kafka), dead(kafka), dead(kafka), dead(kafka, source=b"nowhere")
    assert (0, f"{first} redriven\n", "") == run("dead-letters", "redrive", first)
    code, out, err = run("dead-letters", "redrive", "--reason", "invalid")
    assert (1, f"{second} redriven\n{third} redriven\n") == (code, out)
    assert f"{lost} does not say where it comes from" in err
    assert (1, f"{lost} discarded\n", "the dead letter 9-9 is not there\n") == run("dead-letters", "discard", lost, "9-9")
    assert [] == json.loads(run("dead-letters", "list", "--output", "json")[1])["items"]
    assert 2 == run("dead-letters", "discard")[0]
    for verb in ("redrive", "discard"):
        assert (0, "", "no dead letters\n") == run("dead-letters", verb, "--reason", "invalid")


class TestReplay:
    """``livehook replay``."""

    @pytest.fixture(autouse=True)
    def _deliveries(self, kafka, run):
        for number in range(5):
            delivered(kafka, number)

    def test_it_counts_first_and_goes_back_when_told_to(self, run):
        """--yes answers the question that a terminal would be asked."""
        assert (0, "3 deliveries of adults, from offset 2 until offset 5\n", "") == run("replay", "adults", "--from", "2", "--dry-run")
        code, said, error = run("replay", "adults", "--from", "2", "--yes")
        assert (0, "3 deliveries of adults, from offset 2 until offset 5: sent again as rpl_1\n", "") == (code, said, error)
        assert (0, "rpl_1 is cancelled: 0 of 3 were delivered\n", "") == run("replay", "--cancel", "rpl_1")

    def test_only_some_are_sent_again(self, run, kafka):
        """By range, query and document together."""
        arguments = ["--from", "0", "--until", "4", "--query", "true", "--id", "d1", "--id", "d3", "--id", "d4", "--yes"]
        assert "2 deliveries of adults" in run("replay", "adults", *arguments)[1]
        code, _, error = run("replay", "adults", "--from", "0", "--query", "n >")
        assert (2, True) == (code, "query" in error), error

    @pytest.mark.parametrize("begin", ["beginning", "0", "0:0", "txn:1", "2026-01-01T00:00:00Z"])
    def test_a_place_can_be_named_in_every_form(self, run, begin):
        """An offset, a time, how long ago, a txnId."""
        code, said, error = run("replay", "adults", "--from", begin, "--dry-run", "--output", "json")
        assert (0, {"offset": 0}) == (code, json.loads(said or "{}").get("from")), error

    def test_a_place_may_be_told_as_how_long_ago(self):
        """As for --since of other commands."""
        assert place_of("--from", "1d")["time"] < place_of("--from", "1h")["time"]

    def test_without_a_terminal_it_does_not_ask(self, run):
        """Wrong use, and it says how many there would be."""
        code, _, error = run("replay", "adults", "--from", "2")
        assert (2, True) == (code, "3 deliveries" in error and "--yes" in error)

    def test_wrong_input_says_what_would_be_right(self, run):
        """From the command line and from the API alike."""
        for arguments, part in (
            (["adults"], "--from"),
            (["adults", "--from", "txn:x"], "txn: and a number"),
            (["adults", "--from", "9"], "must be 0 to 4"),
            (["adults", "--from", "2026-01-31"], "RFC 3339"),
            (["adults", "--from", "begin"], "must be beginning, an offset, a time (RFC 3339, or how long ago: 1h) or txn:N"),
            (["adults", "--from", "0", "--until", "end"], "must be an offset, a time"),
        ):
            code, _, error = run("replay", *arguments)
            assert (2, True) == (code, part in error), error

    def test_nothing_to_send_is_no_error(self, run, kafka):
        """A webhook that has not delivered anything yet."""
        run("webhook", "create", "quiet", "--collection", "people", "--url", HOOK)
        assert (0, "0 deliveries of quiet, from offset 0 until offset 0\n", "") == run("replay", "quiet", "--from", "beginning")


def delivered(kafka, number):
    """A delivery in the lane of adults."""
    change = Change("people", f"d{number}", 100 + number, 1, None, b"{}", Origin(0, 0, number), 1)
    append(kafka, TOPICS.lane("adults").name, change.key.encode(), encode_delivery(Delivery("whk_1", 1, Match.CREATE, change)))
