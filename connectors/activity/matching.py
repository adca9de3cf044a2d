"""Whether filters select an attempt that comes by instead of being looked up: the same rules as in SQL, and one test for both."""

from __future__ import annotations

from connectors.activity.model import AttemptFilters
from connectors.activity.projection import searched
from schemas.attempts import Attempt


def selects(filters: AttemptFilters, attempt: Attempt) -> bool:
    """Whether it is one of those that the filters ask for."""
    status = None if attempt.response is None else attempt.response.status
    return (
        filters.webhook in (None, attempt.webhook)
        and (not filters.outcomes or attempt.outcome in filters.outcomes)
        and (filters.since_us is None or attempt.started_us >= filters.since_us)
        and (filters.until_us is None or attempt.started_us < filters.until_us)
        and filters.document in (None, attempt.document)
        and (filters.status is None or filters.status == status)
        and (filters.q is None or filters.q.lower() in searched(attempt))
    )
