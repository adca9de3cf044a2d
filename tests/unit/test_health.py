"""Health endpoints and the sockets they stand on."""

import asyncio
import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import Response
from starlette.routing import Route

from livehook import health


def client(checks, registry=None, extra=()):
    """A client of a role's endpoints."""
    app = health.app(checks, extra, CollectorRegistry() if registry is None else registry)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_a_role_is_ready_when_every_check_is_ok():
    """503 names the one that is not."""
    answers = {"kafka": "ok", "group": "joining"}
    async with client({name: lambda name=name: answers[name] for name in answers}) as role:
        failing = await role.get("/readyz")
        answers["group"] = "ok"
        ready = await role.get("/readyz")

    assert (503, {"status": "failing", "checks": {"kafka": "ok", "group": "joining"}}) == (failing.status_code, failing.json())
    assert (200, {"status": "ok", "checks": {"kafka": "ok", "group": "ok"}}) == (ready.status_code, ready.json())


async def test_metrics_are_those_of_the_role():
    """In the text that Prometheus reads, and no others: the library would add the time at which each began."""
    registry = CollectorRegistry()
    Counter("livehook_tries", "tries", registry=registry).inc(3)
    async with client({}, registry) as role:
        answer = await role.get("/metrics")

    assert ["livehook_tries_total 3.0"] == [line for line in answer.text.splitlines() if not line.startswith("#")]


def test_an_occupied_port_is_named():
    """In one line that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(health.PortInUse, match=f"port {port} is in use: stop what uses it, or choose another one with --port"):
            health.listen("127.0.0.1", port, environment={})


def test_a_socket_may_be_handed_down():
    """So that a role that is started again keeps its port."""
    with health.listen("127.0.0.1", 0, environment={}) as opened:
        handed = health.listen("127.0.0.1", 1, environment={health.LISTEN_FD: str(opened.fileno())})
        assert health.address(opened) == health.address(handed)
        handed.detach()


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", f"http://{socket.gethostname()}:")])
def test_the_address_is_one_that_others_can_use(host, expected):
    """A wildcard becomes this machine's name."""
    with health.listen(host, 0, environment={}) as opened:
        assert health.address(opened).startswith(expected)


async def test_health_is_answered_at_once_and_the_rest_when_the_role_has_started():
    """Who calls a role that is being started again waits, and is not refused."""
    gate = health.Gate()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://127.0.0.1") as role:
        assert 200 == (await role.get("/livez")).status_code
        gate.wait("kafka", "waiting for Kafka")
        assert {"kafka": "waiting for Kafka"} == (await role.get("/readyz")).json()["checks"]
        gate.show(health.app({"group": lambda: "joining"}, [Route("/lanes", lambda _: Response("lanes"))], CollectorRegistry()))
        assert {"group": "joining"} == (await role.get("/readyz")).json()["checks"]
        asked = asyncio.create_task(role.get("/lanes"))
        await asyncio.sleep(0)
        assert not asked.done()
        gate.open()
        assert "lanes" == (await asked).text
