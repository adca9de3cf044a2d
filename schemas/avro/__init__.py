"""The Avro schemas, every version ever written."""
