"""Logs: one JSON object a line on stderr, or coloured text on a terminal. Secrets never get into them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from connectors.kafka.logs import Seldom
from schemas.masking import MASK

FOREIGN = ("httpx", "httpcore", "faust", "mode", "aiokafka", "uvicorn", "asyncio")
SECRET_FIELD = re.compile(r"password|secret|token|authorization|cookie", re.IGNORECASE)
SECRET_TEXT = re.compile(r"whs(ec|k)_[A-Za-z0-9+/=]+|(?<=Bearer )\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send everything that the process logs, ours and others', to ``stream``: standard error if not told."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor]
    if stream.isatty():
        last = [mask_secrets, structlog.dev.ConsoleRenderer(timestamp_key="time", pad_event_to=0)]
    else:
        last = [structlog.processors.format_exc_info, mask_secrets, structlog.processors.JSONRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_seldom(Seldom()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in FOREIGN:
        # Their everyday news is not ours; what goes wrong is.
        logging.getLogger(name).setLevel(logging.DEBUG if root.level == logging.DEBUG else logging.WARNING)
    logging.captureWarnings(capture=True)


def _seldom(seldom: Seldom) -> Callable[[logging.LogRecord], bool]:
    """Others' lines once in a while: while a broker is down, aiokafka says so fifty times a second. Debugging shows all."""

    def passes(record: logging.LogRecord) -> bool:
        is_foreign = record.name.partition(".")[0] in FOREIGN and logging.getLogger().level > logging.DEBUG
        return not is_foreign or seldom.filter(record)

    return passes


def mask_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask fields that are named like a secret, and secrets inside texts."""
    for name, value in event.items():
        if SECRET_FIELD.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = SECRET_TEXT.sub(MASK, value)
    return event
