"""Requests that are sent again: by others, with changes, and many at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.keys import ADMIN, ALICE, BOB, KeyedApi, open_keyed_api

_PATHS = ["/api/v1/generation/submit", "/v1/videos"]
_KEY = {"idempotency-key": "k"}


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("replays")) as opened:
        yield opened


def _total(api: KeyedApi) -> int:
    total: int = api.call(ADMIN, "GET", "/api/v1/queue").json()["total_tasks"]
    return total


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_request_that_is_sent_many_times_at_once_makes_its_jobs_once(path: str, count: int, api: KeyedApi) -> None:
    body = {"prompt": "a cat", "num_outputs": count}
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: api.call(ALICE, "POST", path, json=body, headers=_KEY), range(32)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert len({answer.json().get("task_id", answer.json().get("id")) for answer in answers}) == 1
    assert _total(api) == count


@pytest.mark.parametrize("path", _PATHS)
def test_other_requests_with_the_key_at_once_are_all_rejected_but_one(path: str, api: KeyedApi) -> None:
    def send(index: int) -> Any:
        return api.call(ALICE, "POST", path, json={"prompt": f"cat {index}"}, headers=_KEY)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + 15 * [409]
    assert _total(api) == 1
    rejected = next(answer for answer in answers if answer.status_code == 409)
    assert rejected.json()["error"]["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("path", _PATHS)
def test_a_replay_by_another_owner_makes_a_job_of_that_owner(path: str, api: KeyedApi) -> None:
    first = api.call(ALICE, "POST", path, json={"prompt": "a cat"}, headers=_KEY)
    answer = api.call(BOB, "POST", path, json={"prompt": "a dog"}, headers=_KEY)
    assert answer.status_code == 200, "the key is new to Bob, also with another body"
    assert answer.json() != first.json()
    assert api.call(ALICE, "GET", "/api/v1/queue").json()["total_tasks"] == 1


def test_the_stored_form_of_a_key_is_not_accepted_as_a_key(api: KeyedApi) -> None:
    """Whoever sees the database, or computes the hash, can't claim the request of another owner with it."""
    task_id = api.call(ALICE, "POST", _PATHS[0], json={"prompt": "a cat"}, headers=_KEY).json()["task_id"]
    with api.services.store.database.reading() as connection:
        stored = connection.exec_driver_sql("SELECT idempotency_key FROM jobs").scalar_one()
    assert stored != "k"
    answer = api.call(BOB, "POST", _PATHS[0], json={"prompt": "a cat"}, headers={"idempotency-key": stored})
    assert answer.json()["task_id"] != task_id


def test_a_replay_does_not_revive_a_deleted_job(api: KeyedApi) -> None:
    task_id = api.call(ALICE, "POST", _PATHS[0], json={"prompt": "a cat"}, headers=_KEY).json()["task_id"]
    assert api.call(ALICE, "DELETE", f"/api/v1/queue/{task_id}").status_code == 200
    answer = api.call(ALICE, "POST", _PATHS[0], json={"prompt": "a cat"}, headers=_KEY)
    assert answer.json()["task_id"] != task_id
    assert api.call(ALICE, "GET", f"/api/v1/generation/{task_id}").status_code == 404
