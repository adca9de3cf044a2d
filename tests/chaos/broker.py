"""A broker of the crash test: beside its own address it has another one, whose clients go through a proxy."""

from __future__ import annotations

import re
from pathlib import Path

from connectors.kafka.embedded import EmbeddedKafka
from tests.chaos.proxy import HOST

EXTRA = {
    "listeners": "PROXIED://{host}:{listens}",
    "advertised.listeners": "PROXIED://{host}:{advertised}",
    "listener.security.protocol.map": "PROXIED:PLAINTEXT",
}


class ProxiedKafka(EmbeddedKafka):
    """
    Args:  listens: the port that the proxy leads to. advertised: the proxy's own, to which clients that came through it are sent.
    """

    def __init__(self, directory: Path, *, listens: int, advertised: int) -> None:
        super().__init__(directory)
        self._extra = {name: value.format(host=HOST, listens=listens, advertised=advertised) for name, value in EXTRA.items()}

    def _write_files(self) -> None:
        super()._write_files()
        path = self._folder / "server.properties"
        text = path.read_text()
        for name, value in self._extra.items():
            text, count = re.subn(rf"^({re.escape(name)}\s*=.*)$", rf"\1,{value}", text, flags=re.MULTILINE)
            assert count == 1, f"server.properties has no {name}"
        path.write_text(text)
