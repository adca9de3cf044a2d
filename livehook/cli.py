"""
The command line: which commands there are. Each is imported from ``livehook/commands`` when it is used, so that the others start fast.

Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from livehook import __version__, exits

app = App(
    name="livehook",
    help="Every document change as an ordered, replayable HTTP delivery, on Kafka.",
    version=__version__,
    result_action="return_value",
)
for name, summary, target in (
    ("dev", "Run everything on this machine.", "roles:dev"),
    ("broker", "Run Apache Kafka, one node.", "roles:broker"),
    ("streams", "Run a streams worker: mutations to changes to deliveries.", "roles:streams"),
    ("sink", "Run a sink: deliveries to HTTP calls.", "roles:sink"),
    ("api", "Run the HTTP API.", "roles:api"),
    ("put", "Write documents.", "documents:put"),
    ("remove", "Remove a document.", "documents:remove"),
    ("attempts", "Show calls that were made.", "attempts:attempts"),
    ("resend", "Send a delivery again.", "attempts:resend"),
    ("replay", "Send a webhook's deliveries again.", "replay:replay"),
    ("status", "Show lanes, topics and roles.", "status:status"),
):
    app.command(f"livehook.commands.{target}", name=name, help=summary)
app.command("livehook.commands.webhook:webhook", name="webhook", help="Make, change and try webhooks.")
app.command("livehook.commands.dead_letters:dead_letters", name="dead-letters", help="See, redrive and discard dead letters.")
app.command("livehook.commands.query:query", name="query", help="Try queries.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0 done, 1 failed, 2 wrong use or input, 3 the API or Kafka cannot be reached."""
    try:
        return int(app(arguments, exit_on_error=False, print_error=False) or exits.DONE)
    except CycloptsError as error:
        return _end(exits.WRONG, f"livehook: {error}")
    except exits.Exit as error:
        return _end(error.code, str(error))
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:  # who reads us has seen enough, as `livehook … | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED


def _end(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code
