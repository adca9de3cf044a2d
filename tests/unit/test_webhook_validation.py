"""What a user may write as a webhook: every field, its default, and how it is refused."""

import pytest

from schemas.errors import FieldError, Invalid
from schemas.webhook_checks import Checks
from schemas.webhook_json import spec_json
from schemas.webhook_validation import QueryFieldError, parse_webhook, read_secret
from schemas.webhooks import State, WebhookSpec

SMALLEST = {"collection": "people", "url": "https://example.com/hook"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

OAUTH2 = {"tokenUrl": "https://example.com/token", "clientId": "id", "clientSecret": "s"}
UNCLOSED = 'payload.template cannot be read: Unexpected EOF the tag "id" was never closed was opened at line 1'
PARTIAL = "payload.template has a partial, 'other': a template stands alone, without partials, parents and blocks"
BEHIND = "has {{…}} in its scheme, host or port: it may stand only behind them, after / or ?"


def no_query_is_wrong(text, args, collections):
    return None


def every_identity_is_fine(mtls):
    return []


def every_target_is_fine(host, port):
    return None


CHECKS = Checks(no_query_is_wrong, every_target_is_fine, every_identity_is_fine)


def parse(data, name="adults", checks=CHECKS, **more):
    return parse_webhook(data, name=name, checks=checks, **more)


def errors_of(**fields):
    """What is said of the smallest webhook with these fields, as ``field message``."""
    with pytest.raises(Invalid) as refused:
        parse(SMALLEST | fields)
    return [f"{error.field} {error.message}" for error in refused.value.errors]


def test_every_default_is_filled_in():
    """Collections and a URL are enough; the rest is as the reference says."""
    assert {
        "name": "adults",
        "collections": ["people"],
        "query": "true",
        "args": {},
        "ids": [],
        "events": ["create", "enter", "update", "leave", "remove"],
        "url": "https://example.com/hook",
        "method": "POST",
        "auth": {},
        "headers": {},
        "payload": {"format": "livehook"},
        "fields": {"include": [], "exclude": []},
        "delivery": {"concurrency": 64, "timeoutSeconds": 15, "rateLimit": None, "order": "document", "partitions": 1},
        "retry": {
            "schedule": ["0s", "5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"],
            "jitter": 0.2,
            "disableAfter": "5d",
        },
        "start": "now",
        "onGap": "initial",
        "signing": "v1",
        "state": "active",
    } == spec_json(parse(SMALLEST).spec)


def test_what_is_answered_may_be_sent_back():
    """A webhook as the API answers it is a webhook as the API takes it."""
    spec = parse(SMALLEST | {"events": ["publish", "delete"], "ids": ["a", {"b": 1}], "args": {"x": 1.5}}).spec
    answer = spec_json(spec) | {"createdAt": "2026-01-01T00:00:00.000000Z", "updatedAt": "x", "reason": None}

    assert spec == parse(answer).spec


def test_what_is_answered_with_triggers_may_be_sent_back():
    """The same where triggers say what is selected."""
    triggers = [{"collections": ["a"]}, {"collection": "b", "events": ["unpublish"]}]
    spec = parse({"url": SMALLEST["url"], "triggers": triggers}).spec

    assert spec == parse(spec_json(spec)).spec
    assert "collections" not in spec_json(spec)


def test_null_is_the_same_as_left_out():
    """YAML writes a field without a value as null."""
    assert parse(SMALLEST) == parse(SMALLEST | dict.fromkeys(["query", "args", "auth", "headers", "retry", "secret", "state", "events"]))


def test_objects_may_be_given_in_part():
    """The rest of the object keeps its defaults."""
    spec = parse(SMALLEST | {"delivery": {"concurrency": 1}, "retry": {"jitter": 0}}).spec

    assert (1, 15, 0.0, WebhookSpec("", "").retry.schedule) == (
        spec.delivery.concurrency,
        spec.delivery.timeout_seconds,
        spec.retry.jitter,
        spec.retry.schedule,
    )


def test_every_wrong_field_is_named_at_once():
    """Nobody corrects one field only to be told of the next."""
    assert ["query", "url", "delivery.concurrency", "retry.schedule[1]", "colour"] == [
        line.split()[0]
        for line in errors_of(query=5, url="ftp://x", delivery={"concurrency": 0}, retry={"schedule": ["0s", "soon"]}, colour="red")
    ]


@pytest.mark.parametrize(
    ("data", "shown"), [(None, "null"), ([], "[]"), ("text", "'text'"), (5, "5"), (True, "true"), ([{"a": "ü"}], '[{"a": "ü"}]')]
)
def test_a_webhook_is_an_object(data, shown):
    """Anything else is refused as a whole, and named in JSON's words."""
    with pytest.raises(Invalid) as refused:
        parse(data)
    assert FieldError("", f"is {shown}, must be an object") in refused.value.errors


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a" * 64, "a.b", 5, "ä"])
def test_names(name):
    """[a-z0-9][a-z0-9-]{0,62}."""
    with pytest.raises(Invalid) as refused:
        parse(SMALLEST | {"name": name}, name=None)
    assert ["name"] == [error.field for error in refused.value.errors]


def test_a_name_may_be_left_to_the_path_but_not_differ_from_it():
    """The path says which webhook it is."""
    assert "adults" == parse(SMALLEST).spec.name
    assert ["name is 'others', but the webhook is 'adults': they must be the same"] == errors_of(name="others")


def test_a_name_is_needed_where_no_path_has_it():
    """As in a file."""
    with pytest.raises(Invalid, match="name is missing"):
        parse(SMALLEST, name=None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"collection": None}, "collections is missing: name at least one, or * for all"),
        ({"collection": "9lives"}, "collection is '9lives', must be a letter or _ and then up to 127 letters, digits, _ . or -"),
        ({"collection": None, "collections": []}, "collections is missing: name at least one, or * for all"),
        ({"collection": None, "collections": "people"}, "collections is 'people', must be a list"),
        ({"collections": ["people"]}, "collection and collections are both there: one is enough"),
        ({"collection": None, "collections": ["a", "*"]}, "collections has * beside others: * alone is all"),
        ({"query": 5}, "query is 5, must be a string"),
        ({"args": [1]}, "args is [1], must be an object"),
        ({"args": {"a b": 1}}, "args.a b must be named with letters, digits and _"),
        ({"ids": "a"}, "ids is 'a', must be a list"),
        ({"ids": ["a", 5]}, "ids[1] is 5, must be a string or an object"),
        ({"events": []}, "events is empty: name at least one event, or leave it out for all"),
        (
            {"events": ["born"]},
            "events[0] is 'born', must be create, enter, update, leave, remove, publish, unpublish, delete, initializing or ready",
        ),
        ({"events": ["initial"]}, "events[0] is 'initial', which comes with start and is not asked for here"),
        ({"method": "GET"}, "method is 'GET', must be POST, PUT or PATCH"),
        ({"auth": {"basic": {"username": "u"}}}, "auth.basic.password is missing"),
        ({"auth": {"basic": {"username": "u:x", "password": "p"}}}, "auth.basic.username has a colon or a control character"),
        ({"auth": {"bearer": {"token": "a b"}}}, "auth.bearer.token must be visible ASCII without spaces"),
        ({"auth": {"digest": {}}}, "auth.digest is no field here"),
        ({"auth": {"oauth2": OAUTH2 | {"tokenUrl": None}}}, "auth.oauth2.tokenUrl is missing"),
        (
            {"auth": {"oauth2": OAUTH2 | {"tokenUrl": "http://example.com"}}},
            "auth.oauth2.tokenUrl must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)",
        ),
        (
            {"auth": {"oauth2": OAUTH2 | {"tokenUrl": "https://example.com/{{id}}"}}},
            "auth.oauth2.tokenUrl has {{…}}: a token endpoint is the same for every delivery",
        ),
        ({"auth": {"oauth2": OAUTH2 | {"clientId": "ä"}}}, "auth.oauth2.clientId must be 1 to 1,024 signs of ASCII"),
        ({"auth": {"oauth2": OAUTH2 | {"clientSecret": None}}}, "auth.oauth2.clientSecret is missing"),
        (
            {"auth": {"oauth2": OAUTH2 | {"scope": "a  b"}}},
            "auth.oauth2.scope must be names with one space between, at most 1,024 signs of ASCII",
        ),
        (
            {"auth": {"oauth2": OAUTH2, "bearer": {"token": "t"}}},
            "auth.oauth2 and auth.bearer are both there: a call has one Authorization header",
        ),
        ({"auth": {"mtls": {"cert": "x"}}}, "auth.mtls.key is missing"),
        ({"auth": {"mtls": {"cert": "x", "key": "****"}}}, "auth.mtls.key is masked, and there is none on record to keep"),
        ({"auth": {"mtls": {"cert": "x" * 65_537, "key": "x"}}}, "auth.mtls.cert must be PEM, at most 65,536 signs"),
        (
            {"payload": {"format": "xml"}},
            "payload.format is 'xml', must be livehook, ditto, document, entity, debezium, cloudevents or template",
        ),
        ({"payload": {"format": "template"}}, "payload.format is 'template' without one"),
        ({"payload": {"format": "ditto", "template": "x"}}, "payload.format is 'ditto' beside a template: leave one of them out"),
        ({"payload": {"template": "{{#id}}"}}, UNCLOSED),
        ({"payload": {"template": "{{> other}}"}}, PARTIAL),
        ({"payload": {"template": 5}}, "payload.template is 5, must be a string"),
        ({"payload": {"contentType": "json"}}, "payload.contentType is 'json', must be a media type such as application/json"),
        ({"fields": {"include": ["a", "b..c"]}}, "fields.include[1] is 'b..c', must be names with dots between, at most 1,024 characters"),
        ({"fields": {"exclude": [1]}}, "fields.exclude[0] is 1, must be a string"),
        ({"delivery": {"concurrency": 0}}, "delivery.concurrency is 0, must be 1 to 4096"),
        ({"delivery": {"concurrency": True}}, "delivery.concurrency is true, must be a whole number from 1 to 4096"),
        ({"delivery": {"timeoutSeconds": 61}}, "delivery.timeoutSeconds is 61, must be 1 to 60"),
        ({"delivery": {"concurrency": 1.0}}, "delivery.concurrency is 1.0, must be a whole number from 1 to 4096"),
        ({"url": "https://example.com:99999/"}, "url has the port '99999', must be 80, 443 or a number from 1024 to 65535"),
        ({"url": "https://[::1/"}, "url has an IPv6 address that is none, or without its brackets"),
        ({"delivery": {"rateLimit": 0}}, "delivery.rateLimit is 0, must be 0.01 to 1,000,000"),
        ({"delivery": {"order": "random"}}, "delivery.order is 'random', must be document or none"),
        ({"delivery": {"partitions": 33}}, "delivery.partitions is 33, must be 1 to 32"),
        ({"delivery": {"concurency": 2}}, "delivery.concurency is no field here; did you mean concurrency?"),
        ({"retry": {"schedule": []}}, "retry.schedule is empty: the first entry is the wait before the first attempt"),
        ({"retry": {"schedule": ["0s", "8d"]}}, "retry.schedule is longer than 7d altogether, and a lane keeps its deliveries for 7d"),
        ({"retry": {"jitter": 2}}, "retry.jitter is 2, must be 0 to 1"),
        ({"start": "yesterday"}, "start is 'yesterday', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
        ({"start": "2026-01-01"}, "start is '2026-01-01', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
        ({"start": "txn:x"}, "start is 'txn:x', must be now, beginning, a time with an offset (RFC 3339) or txn:N"),
        ({"onGap": "stop"}, "onGap is 'stop', must be initial or continue"),
        ({"signing": "v2"}, "signing is 'v2', must be v1 or v1a"),
        ({"signing": "v1a", "secret": SECRET}, "secret must be whsk_ and then an Ed25519 key pair or its seed (64 or 32 bytes) in base64"),
        ({"secret": "whsec_short"}, "secret must be whsec_ and then 24 to 64 bytes in base64"),
        ({"secret": "whsec_YWJj"}, "secret must be whsec_ and then 24 to 64 bytes in base64"),
        ({"secret": "****"}, "secret is masked, and there is none on record to keep"),
        ({"state": "asleep"}, "state is 'asleep', must be active or paused"),
        ({"state": "disabled"}, "state is 'disabled', which Livehook alone sets: active or paused are yours"),
    ],
)
def test_refusals(fields, expected):
    """Each wrong field is named, with what would be right."""
    assert [expected] == errors_of(**fields)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "has 0 characters, must have 1 to 8,192"),
        ("http://example.com", "must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)"),
        ("ftp://example.com", "must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)"),
        ("example.com/hook", "must begin with https://, or http:// where private targets are allowed (ALLOW_PRIVATE)"),
        ("https://u:p@example.com", "holds a user or password: use auth.basic"),
        ("https://example.com/#top", "has a fragment (#…), which no receiver ever sees"),
        ("https://example.com/a b", "has a space, a control character or a sign beyond ASCII: percent-encode it"),
        ("https://example.com/ä", "has a space, a control character or a sign beyond ASCII: percent-encode it"),
        ("https:///path", "has no host name that could be called"),
        ("https://exa$mple.com", "has no host name that could be called"),
        ("https://example.com:99", "has port 99, must be 80, 443 or from 1024"),
        ("https://example.com:0", "has port 0, must be 80, 443 or from 1024"),
        ("https://{{host}}/", BEHIND),
        ("{{scheme}}://example.com/", BEHIND),
        ("https://example.com:{{port}}/", BEHIND),
        ("https://example.com{{path}}", BEHIND),
        ("https://example.com{{#id}}/{{/id}}", BEHIND),
        ("https://example.com\\{{path}}", BEHIND),
        ("{{! nothing }}", BEHIND),
        ("https://example.com/{{{id}}}", "has {{{…}}} or {{&…}}: in a URL every value is percent-encoded, write {{…}}"),
        ("https://example.com/{{id", "cannot be read: unclosed tag at line 1"),
        ("https://example.com/{{id}}#top", "has a fragment (#…), which no receiver ever sees"),
        ("https://example.com/ {{id}}", "has a space, a control character or a sign beyond ASCII: percent-encode it"),
        ("https://u:p@example.com/{{id}}", "holds a user or password: use auth.basic"),
    ],
)
def test_urls_that_are_refused(url, expected):
    """Nothing is registered that could never be called, or that would leak what is in it."""
    assert [f"url {expected}"] == errors_of(url=url)


def test_a_url_may_be_a_template_behind_host_and_port():
    """In path and query, with sections too."""
    url = "https://example.com:8443/{{collection}}/{{ id }}?{{#document}}city={{city}}{{/document}}"
    assert url == parse(SMALLEST | {"url": url}).spec.url


def test_a_template_is_a_format_of_its_own():
    """It may be said, and is filled in where it is not."""
    payload = {"template": "{{id}}", "contentType": "text/plain"}
    assert parse(SMALLEST | {"payload": payload}) == parse(SMALLEST | {"payload": payload | {"format": "template"}})
    assert payload | {"format": "template"} == spec_json(parse(SMALLEST | {"payload": payload}).spec)["payload"]


def test_plain_http_is_fine_where_private_targets_are():
    """As in dev."""
    checks = Checks(no_query_is_wrong, every_target_is_fine, every_identity_is_fine, allow_private=True)

    assert "http://127.0.0.1:8000/x" == parse(SMALLEST | {"url": "http://127.0.0.1:8000/x"}, checks=checks).spec.url


def test_a_target_that_may_not_be_called_is_refused():
    """The one who knows the network is asked for host and port."""
    asked = []

    def refuse(host, port):
        asked.append((host, port))
        return "is private"

    with pytest.raises(Invalid, match="url is private"):
        parse(SMALLEST | {"url": "https://[::1]/x"}, checks=Checks(no_query_is_wrong, refuse, every_identity_is_fine))
    assert [("::1", 443)] == asked


def test_a_wrong_query_is_named_with_its_place():
    """Line, column and what was expected come through, in a trigger under its path."""

    def refuse(text, args, collections):
        return QueryFieldError("query", "ends too early", 1, 7, ("a value",))

    with pytest.raises(Invalid) as refused:
        parse(
            {"url": SMALLEST["url"], "triggers": [{"collections": ["a"], "query": "age >="}]},
            checks=Checks(refuse, every_target_is_fine, every_identity_is_fine),
        )
    assert [QueryFieldError("triggers[0].query", "ends too early", 1, 7, ("a value",))] == refused.value.errors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Host", "belongs to the connection and cannot be set"),
        ("transfer-encoding", "belongs to the connection and cannot be set"),
        ("Proxy-Authorization", "belongs to the connection and cannot be set"),
        ("Webhook-Id", "is set by Livehook"),
        ("livehook-anything", "is set by Livehook"),
        ("User-Agent", "is set by Livehook"),
        ("Content-Type", "comes from payload.contentType: set it there"),
        ("x y", "is no header name"),
        ("", "is no header name"),
    ],
)
def test_headers_that_cannot_be_set(name, expected):
    """Ours, the connection's, and what is none."""
    assert [f"headers.{name} {expected}"] == errors_of(headers={name: "v"})


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", " a", "ä", "\x00"])
def test_header_values_cannot_smuggle_anything(value):
    """One line of ASCII."""
    assert ["headers.x-team"] == [line.split()[0] for line in errors_of(headers={"x-team": value})]


def test_a_header_is_there_once():
    """Upper and lower case are the same header."""
    assert 2 == len(errors_of(headers={"X-Team": "a", "x-team": "b"}))


def test_authorization_comes_from_one_place():
    """Either a header or auth."""
    assert {"authorization": "x"} == parse(SMALLEST | {"headers": {"authorization": "x"}}).spec.headers
    assert ["headers.authorization comes from auth: leave one of them out"] == errors_of(
        headers={"authorization": "x"}, auth={"bearer": {"token": "t"}}
    )


def test_secrets_are_never_in_a_message():
    """Not the token, not the header, not the signing secret."""
    lines = errors_of(
        auth={"bearer": {"token": "hidden token"}},
        headers={"x-api-key": "hidden\n"},
        secret="whsec_hidden",
    )
    assert 3 == len(lines)
    assert not [line for line in lines if "hidden" in line]


def test_triggers_stand_instead_of_the_five_fields():
    """Both at once would be a guess."""
    assert ["collection stands in each of the triggers when there are any: leave it out here"] == errors_of(
        triggers=[{"collections": ["a"]}]
    )


def test_each_trigger_is_checked_under_its_place():
    """The path tells which one."""
    with pytest.raises(Invalid) as refused:
        parse({"url": SMALLEST["url"], "triggers": [{"collections": ["a"]}, {"collections": [], "color": 1}, 5]})
    assert ["triggers[1].collections", "triggers[1].color", "triggers[2]", "triggers[2].collections"] == [
        error.field for error in refused.value.errors
    ]


def test_a_disabled_webhook_may_be_sent_back_as_it_is():
    """A change of another field does not wake it up."""
    assert State.DISABLED == parse(SMALLEST | {"state": "disabled"}, disabled=True).spec.state


def test_a_secret_of_ones_own_is_taken():
    """Any key of 24 to 64 bytes, as Standard Webhooks asks."""
    assert SECRET == read_secret(SECRET, "v1") == parse(SMALLEST | {"secret": SECRET}).secret
