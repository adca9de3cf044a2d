"""
Real changes and a realistic mix of standing queries: flights from the moment they are announced until they land (bench/data/README.md).

A flight's document is made two hours before its departure, and changed when it departs and when it lands. Queries are made from a seed.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from schemas.changes import Change
from schemas.positions import Origin

DATA = Path(__file__).parent / "data" / "flights.csv.gz"
NUMBERS = ("flight", "distance", "depDelay", "arrDelay", "airTime")
COLLECTION = "flights"
PARTITIONS = 8
ANNOUNCED = timedelta(hours=2)

Row = dict[str, Any]


def flights() -> list[Row]:
    """Every flight, as its document after it has landed."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        return [_document(row) for row in csv.DictReader(file)]


def _document(row: dict[str, str]) -> Row:
    document: Row = {"_id": f"{row['scheduled'][:10]}-{row['carrier']}{row['flight']}-{row['origin']}", "status": "landed"}
    for name, text in row.items():
        document[name] = int(text) if name in NUMBERS else text
    return document


def changes(rows: list[Row]) -> list[Change]:
    """Three changes a flight, in the order of the times at which they happened."""
    found: list[tuple[datetime, str, Row | None, Row]] = []
    for row in rows:
        scheduled = datetime.fromisoformat(row["scheduled"])
        departed = scheduled + timedelta(minutes=row["depDelay"])
        announced = {name: value for name, value in row.items() if name not in ("depDelay", "arrDelay", "airTime")}
        announced |= {"status": "scheduled"}
        flying = announced | {"status": "departed", "depDelay": row["depDelay"]}
        found.append((scheduled - ANNOUNCED, row["_id"], None, announced))
        found.append((departed, row["_id"], announced, flying))
        found.append((departed + timedelta(minutes=row["airTime"]), row["_id"], flying, row))
    found.sort(key=lambda one: one[:2])
    return [_change(offset, id_, old, new) for offset, (_, id_, old, new) in enumerate(found)]


def _change(offset: int, id_: str, old: Row | None, new: Row) -> Change:
    origin = Origin(0, sum(id_.encode()) % PARTITIONS, offset)
    encoded = None if old is None else msgspec.json.encode(old)
    return Change(COLLECTION, id_, offset, 1, encoded, msgspec.json.encode(new), origin, 0)


def queries(rows: list[Row], count: int, *, unindexable: float = 0.0, seed: int = 1) -> Iterator[str]:
    """
    Queries as people write them: 60 % an equality and more, 25 % ranges, 15 % a prefix or a list; values as frequent as in the data.

    Args:  unindexable: the share of queries that no value of a property can rule out, spread evenly.
    """
    rng = random.Random(seed)
    kinds = [_EQUALITIES] * 60 + [_RANGES] * 25 + [_CHOICES] * 15
    for _ in range(count):
        make = rng.choice(_UNINDEXABLE if rng.random() < unindexable else rng.choice(kinds))
        yield make(rng.choice(rows), rng)


def idle_queries(rows: list[Row], count: int, *, seed: int = 2) -> Iterator[str]:
    """Queries of the same kinds about flights that there are not: no change matches them."""
    rng = random.Random(seed)
    for _ in range(count):
        row = rng.choice(rows)
        elsewhere = {name: value + 100_000 if name in NUMBERS else f"~{value}" for name, value in row.items()}
        yield rng.choice(_ABOUT_A_ROW)(elsewhere, rng)


Make = Callable[[Row, random.Random], str]
_EQUALITIES: tuple[Make, ...] = (
    lambda row, rng: f"carrier = '{row['carrier']}' AND flight = {row['flight']}",
    lambda row, rng: f"flight == {row['flight']} && carrier == '{row['carrier']}' && arrDelay > {rng.randrange(0, 60)}",
    lambda row, rng: f"tailnum = '{row['tailnum']}'",
    lambda row, rng: f"tailnum == '{row['tailnum']}' && status == 'departed'",
    lambda row, rng: f"dest == '{row['dest']}' && origin == '{row['origin']}' && depDelay > {rng.randrange(0, 120)}",
)
_RANGES: tuple[Make, ...] = (
    lambda row, rng: f"scheduled >= '{row['scheduled']}' AND scheduled < '{row['scheduled'][:-2]}59' AND origin = '{row['origin']}'",
    lambda row, rng: f"scheduled BETWEEN '{row['scheduled'][:-2]}00' AND '{row['scheduled'][:-2]}59' AND depDelay > {rng.randrange(0, 60)}",
    lambda row, rng: f"arrDelay >= {row['arrDelay']} && arrDelay < {row['arrDelay'] + 2}",
    lambda row, rng: f"distance BETWEEN {row['distance'] - 2} AND {row['distance'] + 2} AND arrDelay > {rng.randrange(0, 120)}",
    lambda row, rng: f"arrDelay > {rng.randrange(60, 300)}",
)
_CHOICES: tuple[Make, ...] = (
    lambda row, rng: f"tailnum LIKE '{row['tailnum'][:5]}%'",
    lambda row, rng: f"starts_with(tailnum, '{row['tailnum'][:4]}') && carrier == '{row['carrier']}'",
    lambda row, rng: f"flight IN ({row['flight']}, {row['flight'] + 1}, {rng.randrange(1, 6000)})",
    lambda row, rng: f"dest IN ('{row['dest']}', 'XXX') AND depDelay >= {rng.randrange(0, 200)}",
)
_ABOUT_A_ROW = (*_EQUALITIES, *_RANGES[:4], *_CHOICES[:2], _CHOICES[3])  # the others match by what they draw
_UNINDEXABLE: tuple[Make, ...] = (
    lambda row, rng: f"arrDelay - depDelay > {rng.randrange(60, 180)}",
    lambda row, rng: f"depDelay + arrDelay > {rng.randrange(300, 900)} && origin != dest",
    lambda row, rng: f"distance / airTime > {rng.randrange(9, 12)}",
)
