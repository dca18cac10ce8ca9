"""API keys in the database: their secrets, their ends, and the owners of stored inputs."""

import pytest
from sqlalchemy import text

from deployments.jobs.api_keys import KeyNotFound, Scope, parse_key
from deployments.jobs.store import JobStore
from tests.unit.conftest import Clock
from wan22_bridge.errors import Conflict, InvalidRequest


def test_only_the_hash_of_a_secret_is_stored(store: JobStore) -> None:
    key, told = store.keys.create("alice", [Scope.SUBMIT, Scope.READ])
    found = parse_key(told)
    assert found is not None
    key_id, secret = found
    assert key_id == key.id
    assert len(bytes.fromhex(secret)) == 32
    assert key.matches(secret)
    assert not key.matches(secret[:-1] + ("0" if secret[-1] != "0" else "1"))
    with store.database.reading() as connection:
        row = connection.execute(text("SELECT * FROM api_keys")).one()
    assert secret not in str(row)
    assert (row.owner, sorted(key.scopes)) == ("alice", [Scope.READ, Scope.SUBMIT])


def test_two_keys_have_different_ids_and_secrets(store: JobStore) -> None:
    found = [parse_key(store.keys.create("alice", [Scope.READ])[1]) for _ in range(2)]
    assert len({part for parts in found for part in parts or ()}) == 4


@pytest.mark.parametrize("changed", ["{}0", "{} ", " {}", "{}\n", "x{}", "", "wan22__", "wan22_ID_SECRET"])
def test_a_text_without_the_form_of_a_key_is_no_key(changed: str, store: JobStore) -> None:
    assert parse_key(changed.format(store.keys.create("alice", [Scope.READ])[1])) is None


@pytest.mark.parametrize("owner", ["", " ", "a b", "-a", "a\n", "x" * 65, "ü", "a\x00"])
def test_an_owner_needs_a_plain_name(owner: str, store: JobStore) -> None:
    with pytest.raises(InvalidRequest, match=r"^owner: .* is no name of an owner\.$"):
        store.keys.create(owner, [Scope.READ])
    assert store.keys.all() == []


def test_a_key_is_valid_until_it_expires_or_is_revoked(store: JobStore, clock: Clock) -> None:
    lasting, _ = store.keys.create("alice", [Scope.READ])
    short, _ = store.keys.create("alice", [Scope.READ], lifetime_seconds=10)
    assert store.keys.valid().keys() == {lasting.id, short.id}
    clock.now += 10
    assert store.keys.valid().keys() == {lasting.id}
    assert (short.is_valid(clock.now - 1), short.is_valid(clock.now)) == (True, False)
    revoked = store.keys.revoke(lasting.id)
    assert store.keys.valid() == {}
    assert not revoked.is_valid(clock.now)
    clock.now += 5
    assert store.keys.revoke(lasting.id).revoked_at == revoked.revoked_at
    assert {key.id for key in store.keys.all()} == {lasting.id, short.id}


def test_a_rotated_key_overlaps_with_its_successor(store: JobStore, clock: Clock) -> None:
    old, _ = store.keys.create("alice", [Scope.ADMIN], lifetime_seconds=1000)
    clock.now += 100
    new, _ = store.keys.rotate(old.id, overlap_seconds=60)
    assert (new.owner, set(new.scopes), new.expires_at) == ("alice", {Scope.ADMIN}, clock.now + 1000)
    assert store.keys.valid().keys() == {old.id, new.id}
    clock.now += 60
    assert store.keys.valid().keys() == {new.id}
    with pytest.raises(Conflict, match="is expired"):
        store.keys.rotate(old.id, overlap_seconds=60)


def test_each_rotation_of_a_key_gives_the_whole_lifetime(store: JobStore, clock: Clock) -> None:
    old, _ = store.keys.create("alice", [Scope.READ], lifetime_seconds=1000)
    lasting, _ = store.keys.create("alice", [Scope.READ])
    clock.now += 10
    for _ in range(2):
        assert store.keys.rotate(old.id, overlap_seconds=60)[0].expires_at == clock.now + 1000
        assert store.keys.rotate(lasting.id, overlap_seconds=60)[0].expires_at is None


def test_a_rotation_does_not_prolong_a_key(store: JobStore, clock: Clock) -> None:
    old, _ = store.keys.create("alice", [Scope.READ], lifetime_seconds=10)
    store.keys.rotate(old.id, overlap_seconds=3600)
    clock.now += 10
    assert old.id not in store.keys.valid()


def test_unknown_and_revoked_keys_cannot_be_rotated(store: JobStore) -> None:
    key, _ = store.keys.create("alice", [Scope.READ])
    store.keys.revoke(key.id)
    with pytest.raises(Conflict, match="is revoked"):
        store.keys.rotate(key.id, overlap_seconds=0)
    with pytest.raises(KeyNotFound, match="no API key with the id 'nobody'"):
        store.keys.rotate("nobody", overlap_seconds=0)
    with pytest.raises(KeyNotFound):
        store.keys.revoke("nobody")


def test_the_last_use_is_written(store: JobStore, clock: Clock) -> None:
    key, _ = store.keys.create("alice", [Scope.READ])
    clock.now += 7
    store.keys.record_use(key.id)
    assert [found.last_used_at for found in store.keys.all()] == [clock.now]


def test_an_input_has_every_owner_who_has_stored_it(store: JobStore, clock: Clock) -> None:
    store.input_owners.record("alice", ["inputs/1", "inputs/2"])
    clock.now += 50
    store.input_owners.record("bob", ["inputs/1", "inputs/1"])
    store.input_owners.record("", ["inputs/3"])
    assert store.input_owners.has("alice", "inputs/1")
    assert store.input_owners.has("bob", "inputs/1")
    assert not store.input_owners.has("bob", "inputs/2")
    assert store.input_owners.all()["inputs/3"] == [""]
    assert not store.input_owners.has("alice", "inputs/3")
    clock.now += 60
    store.input_owners.record("alice", ["inputs/1"])
    store.input_owners.prune(keep={"inputs/2"}, older_than_seconds=55)
    owned = [(owner, key) for owner in ("alice", "bob") for key in ("inputs/1", "inputs/2")]
    assert [pair for pair in owned if store.input_owners.has(*pair)] == [("alice", "inputs/1"), ("alice", "inputs/2")]
