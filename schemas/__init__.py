"""The contract: record types, their Avro schemas and codec, topic names, errors. No I/O; imports nothing of ours."""
