"""The audit log of one database."""

import pytest

from deployments.jobs import audit
from deployments.jobs.api_keys import Scope
from deployments.jobs.audit import Actor, AuditSource
from deployments.jobs.store import JobStore
from tests.unit.conftest import Clock

_ACTOR = Actor(source=AuditSource.API, name="admin", key_id="00")


def test_entries_are_read_in_pages_newest_first(store: JobStore) -> None:
    for index in range(3):
        store.audit.record(_ACTOR, "pause_queue", f"target {index}", details={"n": index}, result="HTTP 409")
    first, second = store.audit.page(limit=2)
    [third] = store.audit.page(before=second.number, limit=2)
    assert [entry.target for entry in (first, second, third)] == ["target 2", "target 1", "target 0"]
    assert (first.actor, first.action, first.result, first.at) == (_ACTOR, "pause_queue", "HTTP 409", 1_000_000.0)
    assert first.details == {"n": 2}


def test_old_entries_and_too_many_are_removed(store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (0.0, 50.0, 60.0, 70.0):
        clock.now = at
        store.audit.record(_ACTOR, "a", str(at))
    clock.now = 100.0
    store.audit.prune(older_than_seconds=50)
    assert [entry.target for entry in store.audit.page()] == ["70.0", "60.0", "50.0"]
    monkeypatch.setattr(audit, "MAX_ENTRIES", 1)
    store.audit.prune(older_than_seconds=50)
    assert [entry.target for entry in store.audit.page()] == ["70.0"]


def test_a_name_that_a_client_chose_is_stored_shortened_and_without_nul(store: JobStore) -> None:
    store.audit.record(_ACTOR, "delete_lora", "a\x00" + "b" * 1000, details={"name": "\x00" * 500})
    [entry] = store.audit.page()
    assert entry.target == "a\ufffd" + "b" * 298
    assert entry.details == {"name": "\ufffd" * 300}


def test_changes_of_keys_are_recorded_without_their_secrets(store: JobStore) -> None:
    key, text = store.keys.create("alice", [Scope.READ])
    new, other_text = store.keys.rotate(key.id, overlap_seconds=10)
    store.keys.revoke(new.id)
    entries = list(reversed(store.audit.page()))
    assert [(entry.action, entry.target) for entry in entries] == [
        ("create_key", key.id),
        ("rotate_key", key.id),
        ("revoke_key", new.id),
    ]
    assert entries[1].details == {"owner": "alice", "scopes": "read", "new_key": new.id}
    assert {entry.actor.source for entry in entries} == {AuditSource.CLI}
    assert all(entry.actor.name for entry in entries)
    for secret in (text.rpartition("_")[2], other_text.rpartition("_")[2]):
        assert secret not in str(entries)
