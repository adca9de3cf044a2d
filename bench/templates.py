"""
Bodies a second, one process, nothing sent: DatoCMS's own example of a template, beside the formats.

Run: ``python bench/templates.py [--seconds 1] [--runs 5]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from connectors.webhook.formats import FORMATS, Body
from connectors.webhook.template import template_body
from schemas.changes import Change
from schemas.deliveries import Delivery, Match
from schemas.positions import Origin
from schemas.webhooks import WebhookSpec

EXAMPLE = '{"message": "{{event_type}} event triggered on {{entity_type}}!", "entity_id": "{{#entity}}{{id}}{{/entity}}"}'
DOCUMENT_BYTES = 400
BATCH = 1_000


def delivery() -> Delivery:
    """An update of a document of about 400 bytes."""
    old, new = (b'{"_id":"6213e9c9","status":"published","n":%d,"text":"%b"}' % (n, b"x" * (DOCUMENT_BYTES - 60)) for n in (1, 2))
    return Delivery("uid", 1, Match.UPDATE, Change("articles", "6213e9c9", 1_790_000_000_000_001, 2, old, new, Origin(0, 0, 1), 1))


def rate(body: Body, seconds: float) -> float:
    """Bodies a second."""
    given = delivery()
    began, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds:
        for _ in range(BATCH):
            body(given)
        count += BATCH
    return count / taken


def main() -> None:
    """Print a table of bodies a second: min, median, max."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    spec = WebhookSpec("site", "https://example.com", ("articles",), events=("publish", "unpublish", "update"))
    bodies = {name: format_.compile(spec) for name, format_ in FORMATS.items()}
    bodies["template (DatoCMS)"] = template_body(EXAMPLE, "application/json", spec)
    print(f"{'bodies/s':20} {'min':>10} {'median':>10} {'max':>10}")
    for name, body in bodies.items():
        rates = [rate(body, options.seconds) for _ in range(options.runs)]
        print(f"{name:20} {min(rates):>10,.0f} {statistics.median(rates):>10,.0f} {max(rates):>10,.0f}")


if __name__ == "__main__":
    main()
