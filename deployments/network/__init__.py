"""Connections to addresses that clients choose: to receivers of webhooks, and to servers with input files."""
