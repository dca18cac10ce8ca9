"""The audit log of one database."""

from pathlib import Path

import pytest

from deployments.jobs import audit
from deployments.jobs.api_keys import Scope
from deployments.jobs.audit import Actor, AuditSource
from deployments.jobs.store import JobStore
from tests.databases import FILE_NAME, write_database

_ACTOR = Actor(source=AuditSource.API, name="admin", key_id="00")


def _store(folder: Path, now: list[float]) -> JobStore:
    write_database(folder)
    return JobStore(f"sqlite:///{folder}/{FILE_NAME}", clock=lambda: now[0])


def test_entries_are_read_in_pages_newest_first(tmp_path: Path) -> None:
    store = _store(tmp_path, [1000.0])
    for index in range(3):
        store.audit.record(_ACTOR, "pause_queue", f"target {index}", details={"n": index}, result="HTTP 409")
    first, second = store.audit.page(limit=2)
    [third] = store.audit.page(before=second.number, limit=2)
    assert [entry.target for entry in (first, second, third)] == ["target 2", "target 1", "target 0"]
    assert (first.actor, first.action, first.result, first.at) == (_ACTOR, "pause_queue", "HTTP 409", 1000.0)
    assert first.details == {"n": 2}
    store.database.close()


def test_old_entries_and_too_many_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    store = _store(tmp_path, now)
    for at in (0.0, 50.0, 60.0, 70.0):
        now[0] = at
        store.audit.record(_ACTOR, "a", str(at))
    now[0] = 100.0
    store.audit.prune(older_than_seconds=50)
    assert [entry.target for entry in store.audit.page()] == ["70.0", "60.0", "50.0"]
    monkeypatch.setattr(audit, "MAX_ENTRIES", 1)
    store.audit.prune(older_than_seconds=50)
    assert [entry.target for entry in store.audit.page()] == ["70.0"]
    store.database.close()


def test_a_name_that_a_client_chose_is_stored_shortened_and_without_nul(tmp_path: Path) -> None:
    store = _store(tmp_path, [0.0])
    store.audit.record(_ACTOR, "delete_lora", "a\x00" + "b" * 1000, details={"name": "\x00" * 500})
    [entry] = store.audit.page()
    assert entry.target == "a\ufffd" + "b" * 298
    assert entry.details == {"name": "\ufffd" * 300}
    store.database.close()


def test_changes_of_keys_are_recorded_without_their_secrets(tmp_path: Path) -> None:
    store = _store(tmp_path, [0.0])
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
    store.database.close()
