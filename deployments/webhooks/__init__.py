"""Delivery of webhooks by the Standard Webhooks specification (https://www.standardwebhooks.com)."""
