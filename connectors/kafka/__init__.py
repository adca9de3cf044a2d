"""Kafka's edge: how every client connects, topic admin, readers of whole topics, and the embedded broker."""
