"""API keys of requests: who calls, and which scope each route needs. Docs: docs/adr/0017-api-keys.md."""
