"""How far replays are, by what sinks have committed. Pure. Called by replaying.py."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.webhook.offsets import BadMetadata, decode
from schemas.replays import Replay


class Progress(msgspec.Struct, frozen=True):
    """How many of a replay's deliveries are done; ``is_over``: all there is to do."""

    delivered: int
    is_over: bool


def rewound(replay: Replay, committed: Sequence[tuple[int, int] | None]) -> Progress:
    """How far a rewind is, by what is committed of its lane: offset and number of the last jump of each partition. Pure."""
    passed = total = 0
    for commit, begin, until in zip(committed, replay.begin, replay.until, strict=True):
        total += until - begin
        if commit is not None and commit[1] >= replay.number:
            passed += min(max(commit[0] - begin, 0), until - begin)
    return Progress(replay.deliveries * passed // max(total, 1), is_over=passed == total)


def place_of(commit: tuple[int, str], uid: str) -> tuple[int, int] | None:
    """Offset and number of the last jump of a commit and the text beside it; None: it is not of this webhook."""
    offset, metadata = commit
    try:
        return offset, decode(offset, metadata, uid).rewind
    except BadMetadata:
        return None  # set by hand, or of an earlier webhook: the sink that takes the lane writes it anew
