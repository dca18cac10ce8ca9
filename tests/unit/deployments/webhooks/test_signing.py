"""The secret and the signatures of webhooks."""

import base64
import threading
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deployments.jobs.store import JobStore
from deployments.webhooks.signing import is_secret, read_secret, sign

_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def test_all_processes_agree_on_the_stored_secret(store: JobStore, database_url: str) -> None:
    found: list[str] = []
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        found.append(read_secret(store.settings, None))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    later = JobStore(database_url)
    assert {*found, read_secret(later.settings, None)} == {found[0]}
    assert len(found) == 4
    assert is_secret(found[0])
    later.database.close()


def test_a_configured_secret_is_used_and_not_stored(store: JobStore) -> None:
    assert read_secret(store.settings, _SECRET) == _SECRET
    assert read_secret(store.settings, None) != _SECRET


@pytest.mark.parametrize(
    "secret", ["", "whsec_", _SECRET[6:], "whsec_c2hvcnQ=", _SECRET + "!", "whsec_ü", "whsec_" + "A" * 400]
)
def test_a_text_in_another_form_is_no_secret(secret: str) -> None:
    assert is_secret(_SECRET)
    assert not is_secret(secret)


def test_a_signature_holds_for_its_payload_only() -> None:
    headers = sign(_SECRET, "msg_1", datetime.now(UTC), '{"a":"ü"}')
    assert Webhook(_SECRET).verify('{"a":"ü"}', headers) == {"a": "ü"}
    for changed in ({"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(_SECRET).verify('{"a":"ü"}', headers | changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(_SECRET).verify('{"a":"u"}', headers)
