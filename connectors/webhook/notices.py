"""
What happens to a webhook besides its calls, told to whoever reads ``attempts``.

Nothing here waits or fails: a notice that cannot be written now is lost, as an attempt is. Called by runner.py.
"""

from __future__ import annotations

from connectors.webhook.attempts import DETAIL_CHARS_MAX
from connectors.webhook.lanes import Held
from connectors.webhook.shared import Shared
from schemas.notices import Notice, NoticeKind
from schemas.records import encode_notice
from schemas.topics import Record


class Notices:
    """Of one webhook."""

    def __init__(self, webhook: str, shared: Shared) -> None:
        self._webhook, self._shared = webhook, shared

    def about(self, kind: NoticeKind, detail: str) -> None:
        """Something about the whole webhook."""
        self._send(kind, detail)

    def about_delivery(self, kind: NoticeKind, held: Held, place: str, detail: str) -> None:
        """Something about one delivery."""
        delivery = held.delivery
        self._send(kind, detail, delivery.change.key, delivery.webhook_id, place)

    def about_place(self, kind: NoticeKind, document: bytes | None, place: str, detail: str) -> None:
        """Something about a delivery of which only that much is known."""
        self._send(kind, detail, None if document is None else document.decode(errors="replace"), None, place)

    def _send(self, kind: NoticeKind, detail: str, document: str | None = None, id_: str | None = None, place: str | None = None) -> None:
        shared = self._shared
        at_us = int(shared.now() * 1_000_000)
        number = f"ntc_{at_us:014x}{shared.rng.getrandbits(64):016x}"
        notice = Notice(number, kind, self._webhook, at_us, detail[:DETAIL_CHARS_MAX], document, id_, place)
        shared.attempts.send_soon(Record(shared.attempts_topic, self._webhook.encode(), encode_notice(notice)))
