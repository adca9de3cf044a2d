"""Rules of the pages of ``GET /v1/lanes``."""

import httpx
import pytest
from fastapi import FastAPI

from livehook.api.overview import router

LANES = [{"webhook": name, "partition": partition} for name in ("a", "a-b", "a0", "b") for partition in (0, 1)]


class Overview:
    """Eight lanes."""

    async def lanes(self):
        return LANES

    async def sizes(self):
        return []

    async def workers(self):
        return []


@pytest.mark.parametrize("size", [1, 3, 8, 9])
async def test_pages_hold_every_lane_once_and_in_order(size):
    """The last page has no cursor."""
    app = FastAPI()
    app.include_router(router(Overview()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        found, cursor = [], ""
        while cursor is not None:
            page = (await client.get("/v1/lanes", params={"limit": size, "cursor": cursor})).json()
            assert 1 <= len(page["items"]) <= size
            found += page["items"]
            cursor = page["nextCursor"]
    assert LANES == found
