"""What a sink is told, checked when it is made. ``livehook sink`` fills it from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.kafka.config import KafkaConfig
from connectors.webhook.lanes import PARKED_MAX
from schemas.topics import Topics


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkConfig:
    """
    What a sink is told.

    Args:    worker: the address at which this process answers ``GET /lanes``; the API finds it by the client id made from it.
             instance_id: its lasting name in the group, which no other process has; None: a new one in each life.
             in_flight_max: calls at a time, over all lanes.
             held_bytes_max: memory of deliveries on the way, over all lanes, about.
             parked_max: deliveries that may be parked for one webhook; above it its lane is not read on.
             commit_s: between two commits; what was delivered since the last one comes again after a crash.
             drain_s: how long a lane that is given up may finish what is under way; well below half the session timeout.
    Raises:  ValueError.
    """

    kafka: KafkaConfig
    topics: Topics
    worker: str
    version: str
    instance_id: str | None = None
    in_flight_max: int = 1_024
    held_bytes_max: int = 256 * 1024 * 1024
    parked_max: int = PARKED_MAX
    session_timeout_s: float = 30.0
    commit_s: float = 0.5
    drain_s: float = 8.0

    def __post_init__(self) -> None:
        for name in ("in_flight_max", "held_bytes_max", "parked_max", "commit_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be above 0")
        if not 2 * max(self.commit_s, self.drain_s) < self.session_timeout_s:
            raise ValueError(f"commit_s and drain_s must be below half of session_timeout_s, which is {self.session_timeout_s}")

    @property
    def client_id(self) -> str:
        """How the group knows this process."""
        return f"livehook-sink@{self.worker}"
