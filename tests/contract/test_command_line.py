"""The command line as docs/reference/cli.md has it: output, exit codes. On an API with a fake Kafka, in this process."""

import asyncio
import io
import json
import sys
import threading
import time

import pytest
import yaml

from livehook import cli, health
from livehook.api.app import create_app
from livehook.api.testing import FakeKafka, fake_services
from schemas.changes import Change
from schemas.positions import Origin
from schemas.topics import Topics

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = "http://127.0.0.1:9999/hook"
DOWN = "http://127.0.0.1:1"
RICH = [
    {"collections": ["people", "cars"], "query": "age >= $args.min", "args": {"min": 18}, "ids": ["a"], "events": ["create", "remove"]},
    {"triggers": [{"collections": ["people"], "query": "status == 'published'", "events": ["create", "enter"]}, {"collections": ["cars"]}]},
    {"collection": "people", "headers": {"x-team": "crm", "x-api-key": "k1", "x-price": "${not a variable}"}, "state": "paused"},
    {"collection": "people", "delivery": {"concurrency": 7, "rateLimit": 5}, "retry": {"schedule": ["0s", "90s"], "jitter": 0}},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An API in a thread of its own, and the Kafka behind it."""
    kafka = FakeKafka(Topics(partitions=4), tmp_path_factory.mktemp("activity") / "log.sqlite3")
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
    yield health.address(sock), kafka
    loop.call_soon_threadsafe(ending.set)
    thread.join(20)
    loop.close()
    kafka.fed.activity.close()


@pytest.fixture
def kafka(served):
    kafka = served[1]
    kafka.is_down = False
    yield kafka
    kafka.is_down = False


@pytest.fixture
def run(served, kafka, capsys, monkeypatch, tmp_path):
    """Runs a command and gives exit code, stdout and stderr."""
    monkeypatch.setenv("LIVEHOOK_API", served[0])
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def adults(run):
    """A webhook, gone afterwards."""
    run("webhook", "create", "adults", "--collection", "people", "--url", HOOK, "--query", "age >= 18")
    yield "adults"
    run("webhook", "delete", "adults")


class TestPut:
    def test_an_error_names_the_field_of_a_single_document_without_a_place(self, run):
        """There is one document; and with --output json the problem is JSON too, on stderr."""
        assert "Invalid document:\n_id is 1, must be a string or an object\n" == run("put", "people", '{"_id": 1}')[2]
        code, out, err = run("put", "people", '{"_id": 1}', "--output", "json")
        assert (2, "", [{"field": "_id", "message": "is 1, must be a string or an object"}]) == (code, out, json.loads(err)["errors"])

    """``livehook put`` and ``livehook remove``."""

    @pytest.mark.parametrize(
        ("data", "count"),
        [
            ('{"_id": "a"}', 1),
            ('[{"_id": "a"}, {"_id": "b"}]', 2),
            ('{"_id": "a"}\n\n{"_id": "b"}\n', 2),
            ('{\n  "_id": "a"\n}', 1),
            ("[]", 0),
        ],
    )
    def test_an_object_an_array_or_ndjson(self, run, data, count):
        """As an argument or from stdin."""
        for code, out, _ in (run("put", "people", data, "--output", "json"), run("put", "people", "-", "--output", "json", stdin=data)):
            assert (0, count) == (code, json.loads(out)["accepted"])

    def test_a_file(self, run, tmp_path):
        """After @."""
        (tmp_path / "people.json").write_text('[{"_id": "a"}]')

        assert (0, "1 document accepted in people\n", "") == run("put", "people", "@people.json")

    def test_a_missing_file_fails(self, run):
        """1."""
        assert (2, "", "absent.json cannot be read: No such file or directory\n") == run("put", "people", "@absent.json")

    @pytest.mark.parametrize("data", ["{", "", '{"_id": "a"}\n{"b"', "nonsense"])
    def test_what_is_no_json_is_wrong_input(self, run, data):
        """2, before anything is sent."""
        assert 2 == run("put", "people", "-", stdin=data)[0]

    def test_more_than_a_request_carries_goes_in_parts(self, run, kafka):
        """10,000 documents each."""
        before = len(kafka.records("livehook.mutations"))
        code, out, _ = run("put", "people", "-", stdin='{"a":1}\n' * 10_001)

        assert (0, "10001 documents accepted in people\n") == (code, out)
        assert 10_001 == len(kafka.records("livehook.mutations")) - before

    def test_a_wrong_document_is_named_by_its_place_in_the_input(self, run):
        """Also in a later part, which is told from those that were accepted."""
        code, _, err = run("put", "people", "-", stdin='{"a":1}\n' * 10_003 + '{"_id":5}')

        assert 2 == code
        assert "[10003]._id is 5, must be a string or an object" in err
        assert "10000 documents before" in err

    def test_a_document_that_is_wrong_as_a_whole_is_named_by_its_place(self, run):
        """As text and as JSON, in the detail too; the place is that of the input, not of the request that carried it."""
        _, _, text = run("put", "people", "-", stdin='{"a":1}\n5')
        _, _, structured = run("put", "people", "-", "--output", "json", stdin='{"a":1}\n' * 10_001 + "5")

        assert "[1] must be an object" in text
        assert "[10001] must be an object" == json.loads(structured.splitlines()[0])["detail"]

    def test_a_document_is_removed(self, run):
        """An object id is JSON."""
        assert (0, '{"accepted":1,"ids":["a/b"]}\n', "") == run("remove", "people", "a/b", "--output", "json")
        assert {"ids": [{"x": 1}], "accepted": 1} == json.loads(run("remove", "people", '{"x": 1}', "--output", "json")[1])


class TestWebhook:
    """``livehook webhook``."""

    def test_create_shows_the_secret_once(self, run):
        """Then it is masked."""
        code, out, _ = run("webhook", "create", "one", "--collection", "people", "--collection", "cars", "--url", HOOK)
        assert (0, True) == (code, "whsec_" in out)
        shown = json.loads(run("webhook", "show", "one", "--output", "json")[1])
        assert (["people", "cars"], "****") == (shown["collections"], shown["secret"])

        assert (1, "") == run("webhook", "create", "one", "--collection", "people", "--url", HOOK)[:2]
        assert (0, "", "one is deleted\n") == run("webhook", "delete", "one")

    def test_a_wrong_webhook_names_its_fields(self, run):
        """2; a query with its place."""
        code, out, err = run("webhook", "create", "one", "--collection", "9", "--url", HOOK, "--query", "age >=")

        assert (2, "") == (code, out)
        assert "collections[0] is '9'" in err
        assert "query line 1, column 7: " in err

    def test_list_show_pause_resume(self, run, adults):
        """For people a table and YAML, for programs the API's JSON."""
        assert "adults  active  people: age >= 18" in run("webhook", "list")[1]
        assert "adults" == yaml.safe_load(run("webhook", "show", "adults")[1])["name"]
        assert (0, "adults is paused\n", "") == run("webhook", "pause", "adults")
        assert "active" == json.loads(run("webhook", "resume", "adults", "--output", "json")[1])["state"]
        assert ["adults"] == [one["name"] for one in json.loads(run("webhook", "list", "--output", "json")[1])["items"]]

    def test_a_test_delivery(self, run, adults):
        """0 when it was answered with 2xx; request and answer are shown."""
        shown = f"delivered  204  2 ms\n\n> POST {HOOK}\n> livehook-test: true\n>\n> {{}}\n\n< 204\n"
        assert (0, shown, "") == run("webhook", "test", "adults", "--doc", '{"_id": "a"}')
        assert 2 == run("webhook", "test", "adults", "--doc", "[]")[0]

    def test_rotating(self, run, adults):
        """The new secret is printed once."""
        assert SECRET in run("webhook", "rotate-secret", "adults", "--secret", SECRET)[1]
        assert 2 == run("webhook", "rotate-secret", "adults", "--secret", "short")[0]

    def test_one_that_is_not_there(self, run):
        """1."""
        assert (1, "", "the webhook nobody is not there\n") == run("webhook", "show", "nobody")

    def test_errors_are_json_where_output_is(self, run):
        """On stderr, the API's problem."""
        code, out, err = run("webhook", "show", "nobody", "--output", "json")

        assert (1, "", "not-found") == (code, out, json.loads(err)["code"])


class TestFiles:
    @pytest.mark.parametrize("arguments", [("folder",), ("folder", "--prune"), ("empty.yaml", "--prune"), ("-",)])
    def test_nothing_to_apply_is_refused(self, run, adults, tmp_path, arguments):
        """It is most likely the wrong folder, and --prune would delete everything."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "empty.yaml").write_text("# later\n")
        code, out, err = run("webhook", "apply", "-f", *arguments)

        where = "stdin" if arguments[0] == "-" else arguments[0]
        assert (2, "", f"{where} holds no webhook: give a YAML or JSON file with one, or a folder of such files\n") == (code, out, err)
        assert 0 == run("webhook", "show", adults)[0]

    def test_a_file_that_is_not_there_is_wrong_use(self, run):
        """Asked in the same way again, it fails again."""
        assert (2, "", "absent.yaml cannot be read: No such file or directory\n") == run("webhook", "apply", "-f", "absent.yaml")

    """``livehook webhook apply`` and ``export``."""

    def test_apply_makes_changes_and_leaves_alone(self, run, adults, tmp_path):
        """And prints which."""
        (tmp_path / "hooks.yaml").write_text(
            f"name: adults\ncollection: people\nurl: {HOOK}\nquery: age >= 21\n---\nname: new\ncollection: people\nurl: {HOOK}\n"
        )
        code, out, _ = run("webhook", "apply", "-f", "hooks.yaml")
        lines = out.splitlines()
        assert (0, "~ adults: changed", '    query: "age >= 18" -> "age >= 21"', "+ new: made") == (code, *lines[:3])
        assert lines[3].startswith("  signing secret")

        assert (0, "= adults: unchanged\n= new: unchanged\n") == run("webhook", "apply", "-f", "hooks.yaml")[:2]
        run("webhook", "delete", "new")

    def test_a_secret_of_ones_own_is_not_printed(self, run, tmp_path, monkeypatch):
        """Who gave it has it, and the output of apply ends in logs."""
        monkeypatch.setenv("OWN_SECRET", SECRET)
        (tmp_path / "own.yaml").write_text(f"name: own\ncollection: people\nurl: {HOOK}\nsecret: ${{OWN_SECRET}}\n")

        assert (0, "+ own: made\n", "") == run("webhook", "apply", "-f", "own.yaml")
        run("webhook", "delete", "own")
        assert SECRET not in "".join(map(str, run("webhook", "apply", "-f", "own.yaml", "--output", "json")))
        run("webhook", "delete", "own")

    def test_a_dry_run_changes_nothing(self, run, tmp_path):
        """It only prints."""
        (tmp_path / "hooks.json").write_text(json.dumps([{"name": "new", "collection": "people", "url": HOOK}]))

        assert (0, "+ new: made\n", "") == run("webhook", "apply", "-f", "hooks.json", "--dry-run")
        assert 1 == run("webhook", "show", "new")[0]

    def test_prune_deletes_what_is_not_in_the_files(self, run, adults, tmp_path):
        """A folder is all its files."""
        (tmp_path / "hooks").mkdir()
        (tmp_path / "hooks" / "a.yml").write_text(f"- name: only\n  collection: people\n  url: {HOOK}\n")
        code, out, _ = run("webhook", "apply", "-f", "hooks", "--prune")

        assert (0, ["only"]) == (code, [one["name"] for one in json.loads(run("webhook", "list", "--output", "json")[1])["items"]])
        assert "- adults: deleted" in out
        run("webhook", "delete", "only")

    def test_one_wrong_webhook_stops_all(self, run, tmp_path):
        """Before anything is written; it is named."""
        wanted = [{"name": "good", "collection": "people", "url": HOOK}, {"name": "bad", "collection": "people", "url": "x"}]
        (tmp_path / "hooks.yaml").write_text(yaml.safe_dump(wanted))
        code, _, err = run("webhook", "apply", "-f", "hooks.yaml")

        assert (2, True, 1) == (code, err.startswith("bad: "), run("webhook", "show", "good")[0])

    def test_what_is_exported_can_be_applied(self, run, adults, monkeypatch, tmp_path):
        """With the secrets from the environment."""
        run("webhook", "rotate-secret", "adults", "--secret", SECRET, "--overlap-seconds", "0")
        exported = run("webhook", "export")[1]
        assert "secret: ${ADULTS_SECRET}" in exported
        (tmp_path / "hooks.yaml").write_text(exported)

        assert (2, "", "hooks.yaml: ${ADULTS_SECRET} is not set in the environment\n") == run("webhook", "apply", "-f", "hooks.yaml")
        monkeypatch.setenv("ADULTS_SECRET", SECRET)
        assert (0, "= adults: unchanged\n", "") == run("webhook", "apply", "-f", "hooks.yaml")

    @pytest.mark.parametrize("wanted", RICH)
    def test_applying_the_export_changes_nothing(self, run, monkeypatch, tmp_path, wanted):
        """Whatever the webhook has; the secrets stand in the environment."""
        monkeypatch.setenv("RICH_SECRET", SECRET)
        monkeypatch.setenv("RICH_X_API_KEY", "k1")
        source = json.dumps({"name": "rich", "url": HOOK, "secret": SECRET} | wanted).replace("${", "$${")
        (tmp_path / "hooks.json").write_text(source)
        assert 0 == run("webhook", "apply", "-f", "hooks.json")[0]
        exported = run("webhook", "export", "rich")[1]
        assert (False, False) == (SECRET in exported, "k1" in exported)
        (tmp_path / "hooks.yaml").write_text(exported)

        assert (0, "= rich: unchanged\n", "") == run("webhook", "apply", "-f", "hooks.yaml")
        assert exported == run("webhook", "export", "rich")[1]
        run("webhook", "delete", "rich")

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("collection: people", "name is missing"),
            ("name: a\nname: b", "comes twice"),
            ("- name: a\n- name: a", "is there twice"),
            ("- 5", "a webhook must be an object"),
            ("{", "hooks.yaml"),
            ("name: a\nargs: &a {b: *a}", "is nested deeper than 128 levels"),
            (f"name: a\nids: {'[' * 128}{']' * 128}", "is nested deeper than 128 levels"),
            ("- &a0 [x, x]\n" + "".join(f"- &a{n + 1} [*a{n}, *a{n}]\n" for n in range(30)), "has more than 1,000,000 values"),
            (f"- &a0 [{{}}]\n{''.join(f'- &a{n + 1} [*a{n}]{chr(10)}' for n in range(200))}", "is nested deeper than 128 levels"),
        ],
    )
    def test_files_that_are_refused(self, run, tmp_path, content, expected):
        """2, with the file named."""
        (tmp_path / "hooks.yaml").write_text(content)
        code, _, err = run("webhook", "apply", "-f", "hooks.yaml")

        assert (2, True, True) == (code, expected in err, err.startswith("hooks.yaml"))


class TestQuery:
    """``livehook query check``."""

    @pytest.mark.parametrize(("doc", "expected"), [('{"age": 18}', "true"), ('{"age": 1}', "false"), ("{}", "null")])
    def test_a_document_is_answered(self, run, doc, expected):
        """true, false or null."""
        assert (0, f"{expected}\n", "") == run("query", "check", "age >= 18", "--doc", doc)

    def test_without_a_document_nothing_is_printed(self, run):
        """The exit code says it."""
        assert (0, "", "") == run("query", "check", "age >= :min", "--args", '{"min": 18}')

    def test_a_bad_query_is_shown_with_a_caret(self, run):
        """2: the line, the caret, what was expected."""
        code, out, err = run("query", "check", "age >=  && b")

        assert (2, "") == (code, out)
        assert ["  age >=  && b", "          ^", "expected: a value"] == err.splitlines()[1:]

    def test_json(self, run):
        """As the API answers."""
        assert {"valid": True, "result": True} == json.loads(run("query", "check", "true", "--doc", "{}", "--output", "json")[1])

    def test_it_needs_no_livehook(self, run, monkeypatch):
        """Nothing is called."""
        monkeypatch.setenv("LIVEHOOK_API", DOWN)
        assert 0 == run("query", "check", "true")[0]


class TestExplain:
    """``livehook query explain``."""

    def test_every_part_has_its_value(self, run):
        """Each part on a line, further in than what it is a part of; then the event, and what the index found."""
        doc = '{"age": 31, "name": "Frank"}'
        code, out, err = run("query", "explain", "age >= :min && name == 'Frank'", "--doc", doc, "--old", "{}", "--args", '{"min": 18}')

        assert (0, "") == (code, err)
        assert [
            "age >= 18 AND name = 'Frank'  ->  true",
            "  age >= 18  ->  true",
            "    age  ->  31",
            "  name = 'Frank'  ->  true",
            '    name  ->  "Frank"',
            "",
            "result  true",
            "event   enter",
            "index   found by name = 'Frank'",
        ] == out.splitlines()

    @pytest.mark.parametrize(
        ("query", "last"),
        [("a = 1", "index   not found: nothing that the query needs is in the document"), ("a + 1 = 2", "index   asked of every change: ")],
    )
    def test_it_says_when_the_index_is_no_help(self, run, query, last):
        """Not found, or always asked."""
        assert run("query", "explain", query, "--doc", '{"b": 1}')[1].splitlines()[-1].startswith(last)

    def test_json(self, run, monkeypatch):
        """As the API answers, without it."""
        monkeypatch.setenv("LIVEHOOK_API", DOWN)
        found = json.loads(run("query", "explain", "a", "--doc", '{"a": true}', "--output", "json")[1])

        tree = {"text": "a", "value": True, "children": []}
        assert {"result": True, "event": "create", "tree": tree, "index": {"found": True, "by": "a = true"}} == found

    @pytest.mark.parametrize("arguments", [["a =", "--doc", "{}"], ["a", "--doc", "["], ["a"], ["a", "--doc", "{}", "--old", "1"]])
    def test_wrong_input(self, run, arguments):
        """2."""
        assert 2 == run("query", "explain", *arguments)[0]


class TestDryRun:
    """``livehook query dry-run``."""

    def test_history_is_counted(self, run, kafka):
        """By event, in slices of time that leave out nothing; the first bodies as they would be sent."""
        now_us = time.time_ns() // 1_000
        kafka.history.changes = [
            (now_us - ago_s * 1_000_000, change(new=b'{"_id":"%d","age":31}' % ago_s)) for ago_s in (90_000, 86_000, 4_000, 1)
        ]
        code, out, err = run("query", "dry-run", "age >= 18", "--collection", "people")

        assert (0, "") == (code, err)
        assert ["3 changes looked at", "create             3"] == out.splitlines()[:2]
        assert ["86000", "4000", "1"] == [json.loads(line)["change"]["newValue"]["_id"] for line in out.splitlines()[-3:]]

    def test_json(self, run, kafka):
        """One object, as the API answers."""
        kafka.history.changes = []
        found = json.loads(run("query", "dry-run", "true", "--collection", "people", "--since", "5m", "--output", "json")[1])

        assert {"scanned": 0, "matches": dict.fromkeys(["create", "enter", "update", "leave", "remove"], 0), "examples": []} == found

    @pytest.mark.parametrize(
        "arguments", [["age >=", "--collection", "people"], ["true", "--collection", "9"], ["true", "--collection", "c", "--since", "soon"]]
    )
    def test_wrong_input(self, run, arguments):
        """2."""
        assert 2 == run("query", "dry-run", *arguments)[0]


def change(*, old=None, new=None):
    """A change of a person."""
    return Change("people", "1", 1, 1, old, new, Origin(0, 0, 0), 0)


class TestUse:
    """What holds for every command."""

    def test_status(self, run):
        """Three tables, or the API's JSON."""
        code, out, _ = run("status")
        assert (0, True) == (code, out.startswith("WEBHOOK  STATE"))
        assert {"lanes": [], "topics": [], "roles": []} == json.loads(run("status", "--output", "json")[1])

    @pytest.mark.parametrize(
        "arguments",
        [
            ["frobnicate"],
            ["put"],
            ["put", "people", "{}", "--unknown"],
            ["webhook", "create", "a"],
            ["webhook", "show", "A"],
            ["status", "--output", "xml"],
            ["query", "check", "true", "--doc", "{"],
            ["api", "--port", "70000"],
            ["api", "--host", "0.0.0.0"],
            ["sink", "--bootstrap-servers", "nowhere"],
            ["streams", "--config", "absent.toml"],
            ["status", "--api", "127.0.0.1:8080"],
            ["status", "--api", "http://"],
        ],
    )
    def test_wrong_use(self, run, arguments):
        """2, and why on stderr."""
        code, out, err = run(*arguments)

        assert (2, "", True) == (code, out, bool(err))

    def test_without_an_api(self, run):
        """3."""
        code, out, err = run("webhook", "list", "--api", DOWN)

        assert (3, "", True) == (code, out, f"the API at {DOWN} cannot be reached" in err)

    def test_without_kafka(self, run, kafka):
        """3 as well: the API says that the outcome is unknown."""
        kafka.is_down = True

        assert 3 == run("put", "people", "{}")[0]

    def test_the_api_of_this_folder_is_found(self, run, served, monkeypatch, tmp_path):
        """That of ./.livehook/ready.json, when it answers."""
        monkeypatch.delenv("LIVEHOOK_API")
        (tmp_path / ".livehook").mkdir()
        (tmp_path / ".livehook" / "ready.json").write_text(json.dumps({"api": served[0]}))

        assert 0 == run("webhook", "list")[0]

    def test_help_is_there_for_all(self, run):
        """0."""
        for command in ((), ("put",), ("webhook",), ("webhook", "create"), ("query", "check"), ("dev",), ("streams",)):
            assert 0 == run(*command, "--help")[0]

    def test_version(self, run):
        """On stdout."""
        assert (0, "") == run("--version")[::2]
