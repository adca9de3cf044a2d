"""The HTTP API. Source: docs/reference/http-api.md."""
