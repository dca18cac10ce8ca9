"""Accounts of callers: to whom a request is charged, and which limits it has."""

from deployments.jobs.api_keys import ApiKey, Scope
from deployments.jobs.limits import UNLIMITED, Account
from serve_app.settings import LimitSettings


def account_of_key(key: ApiKey, settings: LimitSettings) -> Account:
    """Returns the account of a key: that of its owner, with the key's own limits in place of the service's.

    An administrator has no limits but those that were set for the key.
    """
    limits = UNLIMITED if Scope.ADMIN in key.scopes else settings
    return Account(
        client=key.owner,
        limits=limits.replaced_by(key.limits) if key.limits else limits,
        pending_jobs_overall=settings.pending_jobs_overall,
    )


def account_of_address(address: str, settings: LimitSettings) -> Account:
    """Returns the account of an address, where keys are off. No owner's name has a colon."""
    return Account(client=f"address:{address}", limits=settings, pending_jobs_overall=settings.pending_jobs_overall)
