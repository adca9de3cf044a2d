"""
Writes connectors/kafka/embedded_jars.lock: every jar that the embedded Kafka runs on, with its size and SHA-256.

Run by hand when Kafka's version changes: ``.venv/bin/python tools/kafka_lock.py 4.3.0``. Maven's rules decide which jars those are (jgo
knows them); what users download later must be these very bytes, so the diff of the lock is what a reviewer looks at.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import Dependency, MavenContext

LOCK = Path(__file__).parent.parent / "connectors" / "kafka" / "embedded_jars.lock"
SCOPES = {"compile", "runtime"}


def resolve(version: str, repository: Path) -> list[Dependency]:
    """Kafka's server and all it needs, and what ties its logging to log4j, which Kafka's own packages add too."""
    context = MavenContext(repo_cache=repository)
    servers, needed = context.resolver.resolve([context.create_dependency(f"org.apache.kafka:kafka_2.13:{version}")])
    jars = [*servers, *(dependency for dependency in needed if dependency.scope in SCOPES)]
    log4j = next(jar.version for jar in jars if jar.artifactId == "log4j-core")
    return [*jars, context.create_dependency(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")]


def main(version: str) -> None:
    """Resolve, download and write the lock. jgo compares each jar with the checksum its repository publishes, and warns."""
    with tempfile.TemporaryDirectory() as repository:
        lines = []
        for jar in resolve(version, Path(repository)):
            content = jar.artifact.resolve().read_bytes()
            lines.append(f"{jar.groupId}:{jar.artifactId}:{jar.version} {len(content)} {hashlib.sha256(content).hexdigest()}\n")
    LOCK.write_text("".join(sorted(lines)))


if __name__ == "__main__":
    main(sys.argv[1])
