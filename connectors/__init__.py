"""Everything that touches the outside world: Kafka's clients, the webhook sink, sources. Imports schemas, never streams."""
