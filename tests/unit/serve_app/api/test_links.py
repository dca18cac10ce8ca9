"""Signed links to the files of a video, where the API needs keys."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from serve_app.api.access import links
from serve_app.api.access.links import LinkSigner
from serve_app.cli.main import app
from tests.keys import ADMIN, ALICE, BOB, WRITER, KeyedApi, open_keyed_api

_WEEK = 7 * 24 * 3600


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("links")) as opened:
        yield opened


def _sign(api: KeyedApi, video_id: str, **params: object) -> str:
    """Asks for a link, and returns its path and query."""
    answer = api.call(ALICE, "GET", f"/api/v1/outputs/{video_id}/link", params=params)
    assert answer.status_code == 200, answer.text
    parts = urlsplit(answer.json()["url"])
    assert (parts.scheme, parts.netloc) == ("http", "testserver")
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize(
    ("file", "media_type"),
    [("video", "video/mp4"), ("download", "video/mp4"), ("thumbnail", "image/webp"), ("last_frame", "image/png")],
)
def test_a_link_needs_no_key(file: str, media_type: str, api: KeyedApi) -> None:
    link = _sign(api, api.complete(ALICE).id, file=file)
    answer = api.client.get(link, headers={"range": "bytes=0-3"})
    assert (answer.status_code, answer.headers["content-type"], len(answer.content)) == (206, media_type, 4)
    assert api.client.head(link).status_code == 200


def test_a_link_opens_one_file_of_one_video_only(api: KeyedApi) -> None:
    video_id, other = api.complete(ALICE).id, api.complete(ALICE).id
    path, _, query = _sign(api, video_id).partition("?")
    assert api.client.get(f"{path}?{query}").status_code == 200
    changed = [
        f"{path.replace(video_id, other)}?{query}",
        f"{path.replace('/video', '/thumbnail')}?{query}",
        f"/api/v1/outputs/{video_id}?{query}",
        f"/api/v1/outputs?{query}",
        f"/v1/videos/{video_id}/content?{query}",
        f"{path}?{query[:-1]}",
        f"{path}?{query}0",
        f"{path}?{query.replace('expires=', 'expires=9')}",
        f"{path}?{re.sub('expires=([0-9]+)', 'expires=', query)}",
        f"{path}?{re.sub('signature=.*', 'signature=', query)}",
        f"{path}?{re.sub('signature=.*', 'signature=%C3%A4', query)}",
    ]
    assert {api.client.get(url).status_code for url in changed} == {401}
    assert api.client.delete(f"{path}?{query}").status_code == 405


def test_a_link_expires(api: KeyedApi) -> None:
    path = f"/api/v1/outputs/{api.complete(ALICE).id}/video"
    signer = LinkSigner(api.services.store.settings)
    live, late = signer.sign(path, 60)[0], signer.sign(path, 0)[0]
    assert (api.client.get(live).status_code, api.client.get(late).status_code) == (200, 401)


@pytest.mark.parametrize(("params", "seconds"), [({}, 3600), ({"expires_seconds": _WEEK}, _WEEK)])
def test_a_link_states_when_it_expires(params: dict[str, int], seconds: int, api: KeyedApi) -> None:
    path = f"/api/v1/outputs/{api.complete(ALICE).id}/link"
    before = int(time.time())
    answer = api.call(ALICE, "GET", path, params=params).json()
    [expires] = parse_qs(urlsplit(answer["url"]).query)["expires"]
    assert datetime.fromisoformat(answer["expires_at"]).timestamp() == int(expires)
    assert before + seconds <= int(expires) <= time.time() + seconds


@pytest.mark.parametrize("params", [{"expires_seconds": 0}, {"expires_seconds": _WEEK + 1}, {"file": "spritesheet"}])
def test_a_link_that_lasts_too_long_or_names_another_file_is_rejected(params: dict[str, object], api: KeyedApi) -> None:
    answer = api.call(ALICE, "GET", f"/api/v1/outputs/{api.complete(ALICE).id}/link", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(params)))


def test_only_who_may_read_a_video_gets_a_link(api: KeyedApi) -> None:
    path = f"/api/v1/outputs/{api.complete(ALICE).id}/link"
    statuses = {name: api.call(name, "GET", path).status_code for name in (ALICE, ADMIN, BOB, WRITER)}
    assert statuses == {ALICE: 200, ADMIN: 200, BOB: 404, WRITER: 403}
    assert api.client.get(path).status_code == 401
    assert api.call(ALICE, "GET", f"/api/v1/outputs/{api.submit(ALICE)}/link").status_code == 409


def test_deleting_a_video_ends_its_links(api: KeyedApi) -> None:
    video_id = api.complete(ALICE).id
    link = _sign(api, video_id)
    assert api.call(ALICE, "DELETE", f"/api/v1/outputs/{video_id}").status_code == 200
    assert api.client.get(link).status_code == 404


def test_rotating_the_secret_ends_all_links(api: KeyedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = api.complete(ALICE).id
    link = _sign(api, video_id)
    data_dir = str(api.services.settings.data_dir)
    assert CliRunner().invoke(app, ["keys", "rotate-links", "--data-dir", data_dir]).exit_code == 0
    monkeypatch.setattr(links, "_REFRESH_SECONDS", 0.0)  # the time passes until the replica notices
    assert api.client.get(link).status_code == 401
    assert api.client.get(_sign(api, video_id)).status_code == 200


def test_all_replicas_and_restarts_share_the_secret(api: KeyedApi) -> None:
    path = f"/api/v1/outputs/{api.complete(ALICE).id}/video"
    signed = [LinkSigner(api.services.store.settings).sign(path, 60)[0] for _ in range(2)]
    assert [api.client.get(link).status_code for link in signed] == [200, 200]
