"""What every simulation has."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is logged of so many mishaps is read by nobody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
