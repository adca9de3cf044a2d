"""
What the reading of a webhook has to ask others, who know the query language, the network and certificates. Put together by livehook/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from schemas.errors import FieldError

TargetCheck = Callable[[str, int], str | None]
"""Host and port of a URL in; why they may not be called, as far as the text tells, else None."""

IdentityCheck = Callable[[Mapping[str, str | None]], Sequence[FieldError]]
"""``cert``, ``key`` and ``ca`` of auth.mtls in; what is wrong with them."""

QueryCheck = Callable[[str, Mapping[str, Any], Sequence[str]], FieldError | None]
"""Query, arguments and collections in; what is wrong with the query, as the field ``query`` or ``args``."""


class Checks(msgspec.Struct, frozen=True):
    """
    What others know to be right: the query language, what may be called, and which certificates can be used.

    allow_private:  plain http is fine.
    """

    query: QueryCheck
    target: TargetCheck
    identity: IdentityCheck
    allow_private: bool = False
