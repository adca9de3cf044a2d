"""The small pure parts around a webhook's input: merge patch, masking, differences, times, targets, files."""

import pytest

from connectors.webhook.egress import rules
from livehook.api.differences import differences
from livehook.api.lanes import Worker, unheld_lane, worker_of
from livehook.checks import check_query, target_check
from livehook.commands.webhook_files import exported, fill
from livehook.exits import Wrong
from schemas.masking import keep_masked, mask, name_secrets
from schemas.merge_patch import merge_patch
from schemas.registry import Webhook
from schemas.times import parse_rfc3339, rfc3339
from schemas.webhook_json import webhook_json
from schemas.webhook_validation import QueryFieldError, Wanted
from schemas.webhooks import Secret, State, WebhookRevision, WebhookSpec, WebhookStatus

SPEC = WebhookSpec("adults", "https://example.com", ("people",), auth={"bearer": {"token": "t"}}, headers={"x-token": "h", "x-team": "crm"})
WEBHOOK = Webhook(WebhookRevision("u", "adults", 1, 1, SPEC, [Secret("whsec_x")], 1, 2_000_001, []))


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_rfc_7396(target, patch, expected):
    """Its appendix A."""
    assert expected == merge_patch(target, patch)


def test_a_patch_changes_neither_argument():
    """Pure."""
    target, patch = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge_patch(target, patch)["a"]["d"] = 3

    assert ({"a": {"b": 1}}, {"a": {"c": 2}}) == (target, patch)


def test_every_secret_is_masked():
    """Signing secret, credentials, and headers that are named like one."""
    shown = webhook_json(WEBHOOK)

    assert ("****", {"bearer": {"token": "****"}}, {"x-token": "****", "x-team": "crm"}) == (
        shown["secret"],
        shown["auth"],
        shown["headers"],
    )
    assert "whsec_x" == webhook_json(WEBHOOK, show_secret=True)["secret"]


def test_an_answer_tells_when_and_why():
    """Times in UTC with microseconds; the reason of a disabled webhook."""
    disabled = Webhook(WEBHOOK.current, WebhookStatus("u", "adults", 1, State.DISABLED, "410 Gone", 3))

    assert ("1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:02.000001Z", "disabled", "410 Gone") == tuple(
        webhook_json(disabled)[name] for name in ("createdAt", "updatedAt", "state", "reason")
    )


def test_masked_secrets_are_kept_and_others_are_not():
    """One that comes back masked is the one that was there; without one it stays masked, to be refused."""
    present = {"secret": "s", "auth": {"basic": {"username": "u", "password": "p"}}, "headers": {"x-key": "k"}}

    assert present == keep_masked(mask(present), present)
    assert {"secret": "new"} == keep_masked({"secret": "new"}, present)
    assert {"headers": {"x-other-key": "****"}} == keep_masked({"headers": {"x-other-key": "****"}}, present)
    assert {"headers": {"x-team": "****"}} == keep_masked({"headers": {"x-team": "****"}}, present)


def test_an_export_names_its_secrets():
    """By webhook and field, as variables of the environment may be called."""
    webhook = {"name": "9-to-5", "secret": "s", "auth": {"bearer": {"token": "t"}}, "headers": {"x-api-key": "k", "x-team": "crm"}}

    assert {
        "name": "9-to-5",
        "secret": "${_9_TO_5_SECRET}",
        "auth": {"bearer": {"token": "${_9_TO_5_TOKEN}"}},
        "headers": {"x-api-key": "${_9_TO_5_X_API_KEY}", "x-team": "crm"},
    } == name_secrets(webhook)


def test_an_export_leaves_out_defaults_and_what_livehook_knows():
    """What is left can be applied, and reads like what a person writes."""
    assert {
        "name": "adults",
        "collections": ["people"],
        "url": "https://example.com",
        "auth": {"bearer": {"token": "${ADULTS_TOKEN}"}},
        "headers": {"x-token": "${ADULTS_X_TOKEN}", "x-team": "crm"},
        "secret": "${ADULTS_SECRET}",
    } == exported(webhook_json(WEBHOOK))


def test_variables_are_filled_in_every_string():
    """At any depth; $${ stands for ${."""
    value = {"a": ["${ONE}-${TWO}", "$${ONE}", "$5 {x}"], "b": 1}

    assert {"a": ["1-2", "${ONE}", "$5 {x}"], "b": 1} == fill(value, {"ONE": "1", "TWO": "2"}, "f")
    with pytest.raises(Wrong, match="THREE"):
        fill("${THREE}", {}, "f")


def test_what_a_user_wrote_as_a_variable_survives_an_export():
    """Escaped on the way out, it comes back as it was."""
    shown = webhook_json(
        Webhook(WebhookRevision("u", "a", 1, 1, WebhookSpec("a", "https://e.com", ("p",), "x == '${Y}'"), [Secret("s")], 1, 1))
    )

    assert "x == '${Y}'" == fill(exported(shown), {"A_SECRET": "s"}, "f")["query"]


def test_differences_name_fields_and_never_secrets():
    """Objects by their fields; secrets only as changed."""
    wanted = WebhookSpec("adults", "https://example.com", ("people", "cars"), auth={"bearer": {"token": "u"}}, headers={"x-team": "crm"})

    assert {
        "name": "adults",
        "action": "change",
        "changes": [
            {"field": "auth.bearer", "from": {"token": "****"}, "to": {"token": "****"}},
            {"field": "collections", "from": ["people"], "to": ["people", "cars"]},
            {"field": "headers.x-token", "from": "****", "to": None},
        ],
    } == differences(WEBHOOK, Wanted(wanted))


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1_790_000_000_000_001, "2026-09-21T14:13:20.000001Z"), (-1, "1969-12-31T23:59:59.999999Z")],
)
def test_times_keep_their_microseconds(us, text):
    """Both ways."""
    assert (text, us) == (rfc3339(us), parse_rfc3339(text))


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+0100", "now", "2026-13-01T00:00:00Z"])
def test_times_need_an_offset(text):
    """What has none could mean anything."""
    with pytest.raises(ValueError, match=r"offset|month"):
        parse_rfc3339(text)


def test_an_offset_is_taken_away():
    """The same moment in UTC."""
    assert parse_rfc3339("2026-01-01T00:00:00Z") == parse_rfc3339("2026-01-01T01:30:00.0000009+01:30")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "a.localhost", "::1", "::ffff:10.0.0.1", "10.1.2.3",
     "169.254.169.254", "0.0.0.0", "fe80::1%eth0", "224.0.0.1", "100.64.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused_however_they_are_spelled(host):
    """As a resolver would read them."""
    assert "not public" in (target_check(rules(allow_private=False, egress_allow=()))(host, 443) or "")


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "2606:4700::1111", "10.0.0.example.com"])
def test_public_addresses_and_names_are_fine(host):
    """Names are left to the call."""
    assert target_check(rules(allow_private=False, egress_allow=()))(host, 443) is None


def test_a_network_may_be_allowed():
    """And only that one."""
    check = target_check(rules(allow_private=False, egress_allow=("10.1.0.0/16",)))

    assert check("10.1.2.3", 443) is None
    assert check("10.2.2.3", 443) is not None


def test_a_bad_query_is_told_with_its_place():
    """As the field ``query``."""
    assert isinstance(check_query("age >=", {}, ["people"]), QueryFieldError)
    assert check_query("age >= 18", {}, ["people"]) is None


@pytest.mark.parametrize(
    ("client_id", "expected"),
    [
        ("livehook-sink@http://10.0.0.7:8082", Worker("sink", "http://10.0.0.7:8082")),
        ("livehook-streams@http://[::1]:8081", Worker("streams", "http://[::1]:8081")),
        ("rdkafka", None),
        ("livehook-sink@ftp://x", None),
        ("other@http://x", None),
    ],
)
def test_workers_are_known_by_their_client_id(client_id, expected):
    """Members of our groups that are not ours are left alone."""
    assert expected == worker_of(client_id)


@pytest.mark.parametrize(
    ("committed", "kept", "expected"),
    [(None, None, (0, 0, 0)), (None, (5, 9), (4, 5, 9)), (7, (5, 9), (2, 7, 9)), (3, (5, 9), (4, 5, 9)), (9, (5, 9), (0, 9, 9))],
)
def test_a_lane_that_nobody_holds_lags_by_what_is_not_committed(committed, kept, expected):
    """What retention has taken is not counted."""
    item = unheld_lane(WEBHOOK, 0, committed, kept)

    assert ("unassigned", *expected) == (item["state"], item["lag"], item["offset"]["committed"], item["offset"]["end"])
