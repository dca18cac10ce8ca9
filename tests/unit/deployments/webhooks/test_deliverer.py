"""The deliverer with a real database and real receivers."""

import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from deployments.jobs.deliveries import LEASE_SECONDS, Delivery, DeliveryState
from deployments.jobs.events import describe
from deployments.jobs.outbox import JobEnds
from deployments.jobs.store import JobStore
from deployments.webhooks import lane
from deployments.webhooks.deliverer import Deliverer
from deployments.webhooks.lane import WebhookConfig
from deployments.webhooks.signing import read_secret
from tests.jobs import make_job
from tests.receiver import Receiver, receiving
from tests.service import free_port, wait_until
from tests.unit.conftest import Clock


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    """A store whose jobs' ends are reported to receivers of their own."""
    opened = JobStore(database_url, clock=clock, database_clock=clock, job_ends=JobEnds(describe=describe))
    yield opened
    opened.database.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@contextmanager
def _delivering(store: JobStore, *, allow_private: bool = True) -> Iterator[Deliverer]:
    deliverer = Deliverer(store, WebhookConfig(allow_private=allow_private))
    deliverer.start()
    try:
        yield deliverer
        assert deliverer.is_alive
    finally:
        deliverer.stop()
    assert not deliverer.is_alive


def _end_job(store: JobStore, url: str) -> str:
    """Ends a job and returns the id of its webhook."""
    store.writer.request_cancel(store.writer.submit(make_job(webhook_url=url)).id)
    return store.deliveries.page(limit=1)[0].id


def _wait(store: JobStore, delivery_id: str, *, attempts: int = 1) -> Delivery:
    """Waits until the result of an attempt is recorded."""

    def look() -> Delivery | None:
        found = store.deliveries.get(delivery_id)
        recorded = found.last_status is not None or found.last_error is not None
        return found if recorded and found.attempts >= attempts else None

    found: Delivery = wait_until(look, seconds=30, every=0.02)
    return found


def test_the_end_of_a_job_arrives_with_a_signature(store: JobStore, receiver: Receiver) -> None:
    with _delivering(store):
        delivery_id = _end_job(store, receiver.url)
        request = receiver.wait()
        assert _wait(store, delivery_id).state is DeliveryState.DELIVERED
    payload = request.verify(read_secret(store.settings, None))
    assert (payload["type"], payload["data"]["state"]) == ("video.cancelled", "cancelled")
    assert request.headers["webhook-id"] == delivery_id
    assert len(receiver.requests) == 1


def test_a_failing_receiver_is_tried_again_until_it_accepts(store: JobStore, clock: Clock, receiver: Receiver) -> None:
    receiver.status = 503
    with _delivering(store):
        delivery_id = _end_job(store, receiver.url)
        failed = _wait(store, delivery_id)
        assert (failed.state, failed.last_status) == (DeliveryState.PENDING, 503)
        assert failed.next_attempt_at is not None
        assert 5 <= failed.next_attempt_at - clock.now <= 6
        receiver.status = 200
        clock.now += 6
        assert wait_until(lambda: store.deliveries.get(delivery_id).state is DeliveryState.DELIVERED, seconds=20)
    first, second = receiver.requests
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    second.verify(read_secret(store.settings, None))


def test_a_receiver_that_never_accepts_is_given_up(store: JobStore, clock: Clock, receiver: Receiver) -> None:
    receiver.status = 500
    with _delivering(store):
        delivery_id = _end_job(store, receiver.url)
        for number in range(1, 11):
            failed = wait_until(partial(_look, store, clock, delivery_id, number), seconds=30, every=0.02)
            clock.now += 2 * 24 * 3600
    assert (failed.state, failed.attempts, failed.next_attempt_at) == (DeliveryState.FAILED, 10, None)
    assert len(receiver.requests) == 10


def _look(store: JobStore, clock: Clock, delivery_id: str, number: int) -> Delivery | None:
    """Returns the delivery once the result of this attempt is recorded."""
    found = store.deliveries.get(delivery_id)
    ended = found.state is not DeliveryState.PENDING
    waits = found.next_attempt_at not in (None, clock.now, clock.now + LEASE_SECONDS)
    return found if found.attempts == number and (ended or waits) else None


def test_a_receiver_that_is_gone_is_not_tried_again_but_gets_later_webhooks(
    store: JobStore, receiver: Receiver
) -> None:
    receiver.status = 410
    with _delivering(store):
        failed = _wait(store, _end_job(store, receiver.url))
        assert (failed.state, failed.attempts, failed.last_status) == (DeliveryState.FAILED, 1, 410)
        receiver.status = 200
        later = _wait(store, _end_job(store, receiver.url))
    assert later.state is DeliveryState.DELIVERED
    assert len(receiver.requests) == 2


def test_a_receiver_can_ask_for_more_time(store: JobStore, clock: Clock, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "1234"}
    with _delivering(store):
        failed = _wait(store, _end_job(store, receiver.url))
    assert failed.next_attempt_at == clock.now + 1234


def test_a_receiver_whose_date_is_out_of_range_is_tried_again(store: JobStore, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999"}
    with _delivering(store):
        failed = _wait(store, _end_job(store, receiver.url))
    assert (failed.state, failed.last_status) == (DeliveryState.PENDING, 503)


def test_an_unexpected_error_fails_one_attempt_and_no_other_webhook(
    store: JobStore, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with _delivering(store), caplog.at_level(logging.ERROR, "ray.serve"):
        broken = _wait(store, _end_job(store, "http://example.com:token/"))  # no request could store this URL
        assert (broken.state, broken.attempts) == (DeliveryState.PENDING, 1)
        assert broken.last_error == "The service could not complete the attempt: InvalidURL."
        assert broken.next_attempt_at is not None
        assert 5 <= broken.next_attempt_at - clock.now <= 6
        assert _wait(store, _end_job(store, receiver.url)).state is DeliveryState.DELIVERED
    [record] = caplog.records
    assert getattr(record, "action", None) == "webhook_attempt_broken"


def test_slow_dead_and_private_receivers_do_not_delay_another(
    store: JobStore, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as slow, receiving() as slower, _delivering(store):
        waiting: list[str] = []
        for other in (slow, slower):
            other.answering.clear()
            waiting += [_end_job(store, f"{other.url}/hidden?token=hidden") for _ in range(20)]
        dead = [_end_job(store, f"http://127.0.0.1:{free_port()}/hidden?token=hidden") for _ in range(3)]
        with caplog.at_level(logging.INFO, "ray.serve"):
            delivered = _wait(store, _end_job(store, receiver.url))
            assert all(store.deliveries.get(each).last_error is None for each in waiting), "none was waited for"
            assert delivered.state is DeliveryState.DELIVERED
            for delivery_id in dead:
                assert "can't be reached" in str(_wait(store, delivery_id).last_error)
        for other in (slow, slower):
            other.wait()
            other.wait()
            assert len(other.requests) == 2
    assert "webhook_failed" in {getattr(record, "action", None) for record in caplog.records}
    assert "hidden" not in caplog.text
    assert read_secret(store.settings, None) not in caplog.text


@contextmanager
def _stuck_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Lets each look-up of a name in stuck.example wait until the context ends. Each one releases the semaphore."""
    begun, ended, resolve = threading.Semaphore(0), threading.Event(), socket.getaddrinfo

    def wait_or_resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if not host.endswith(".stuck.example"):
            return resolve(host, *arguments, **options)
        begun.release()
        ended.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", wait_or_resolve)
    try:
        yield begun
    finally:
        ended.set()


def _fill_with_stuck_names(store: JobStore, begun: threading.Semaphore) -> None:
    """Ends as many jobs whose receivers have stuck names as one lane attempts at once."""
    for number in range(16):
        _end_job(store, f"http://{number // 2}.stuck.example/")
    for _ in range(16):
        assert begun.acquire(timeout=20)


def test_slow_names_of_requests_do_not_delay_the_operators_receivers(
    store: JobStore, database_url: str, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "TIMEOUT_SECONDS", 60.0)
    reporting = JobStore(
        database_url, clock=clock, database_clock=clock, job_ends=JobEnds(describe=describe, urls=(receiver.url,))
    )
    with _delivering(store), _stuck_names(monkeypatch) as begun:
        _fill_with_stuck_names(store, begun)
        reporting.writer.request_cancel(reporting.writer.submit(make_job()).id)
        assert receiver.wait(lane.TIMEOUT_SECONDS / 2).headers["webhook-id"]
    reporting.database.close()


def test_look_ups_that_outlive_their_attempts_leave_threads_for_later_attempts(
    store: JobStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "TIMEOUT_SECONDS", 2.0)
    with _delivering(store), _stuck_names(monkeypatch) as begun:
        _fill_with_stuck_names(store, begun)
        assert _wait(store, _end_job(store, receiver.url)).state is DeliveryState.DELIVERED


def test_private_receivers_of_requests_are_not_reached(store: JobStore, receiver: Receiver) -> None:
    with _delivering(store, allow_private=False):
        failed = _wait(store, _end_job(store, receiver.url))
    assert "Private addresses are not allowed" in str(failed.last_error)
    assert receiver.requests == []


def test_a_webhook_of_the_settings_may_go_to_a_private_receiver(
    database_url: str, clock: Clock, receiver: Receiver
) -> None:
    store = JobStore(
        database_url, clock=clock, database_clock=clock, job_ends=JobEnds(describe=describe, urls=(receiver.url,))
    )
    store.writer.request_cancel(store.writer.submit(make_job()).id)
    with _delivering(store, allow_private=False):
        receiver.wait()
        assert _wait(store, store.deliveries.page()[0].id).state is DeliveryState.DELIVERED
    store.database.close()


def test_two_deliverers_share_the_work(store: JobStore, receiver: Receiver) -> None:
    ids = [_end_job(store, receiver.url) for _ in range(30)]
    with _delivering(store), _delivering(store):
        for delivery_id in ids:
            _wait(store, delivery_id)
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted(ids)


def test_a_replayed_webhook_arrives_again_with_its_id(store: JobStore, receiver: Receiver) -> None:
    with _delivering(store):
        delivery_id = _end_job(store, receiver.url)
        first = receiver.wait()
        _wait(store, delivery_id)
        store.deliveries.replay(delivery_id)
        second = receiver.wait()
        _wait(store, delivery_id)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)


def test_a_stop_waits_for_no_receiver(store: JobStore, receiver: Receiver) -> None:
    receiver.answering.clear()
    with _delivering(store):
        delivery_id = _end_job(store, receiver.url)
        receiver.wait()
    interrupted = store.deliveries.get(delivery_id)
    assert (interrupted.state, interrupted.last_error) == (DeliveryState.PENDING, None)


def _deliver_in_this_process(database_url: str, now: float) -> None:
    store = JobStore(database_url, database_clock=lambda: now)
    deliverer = Deliverer(store, WebhookConfig(allow_private=True))
    deliverer.start()
    while deliverer.is_alive:
        time.sleep(0.1)


def test_a_webhook_is_delivered_again_after_a_kill_in_the_middle(
    store: JobStore, database_url: str, clock: Clock, receiver: Receiver
) -> None:
    receiver.answering.clear()
    delivery_id = _end_job(store, receiver.url)
    process = multiprocessing.get_context("spawn").Process(
        target=_deliver_in_this_process, args=(database_url, clock.now)
    )
    process.start()
    first = receiver.wait(60)
    process.kill()
    process.join()
    receiver.answering.set()
    with _delivering(store):
        assert store.deliveries.get(delivery_id).state is DeliveryState.PENDING
        clock.now += LEASE_SECONDS
        second = receiver.wait()
        delivered = _wait(store, delivery_id)
    assert (delivered.state, delivered.attempts) == (DeliveryState.DELIVERED, 2)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
