"""Caches show no video that was deleted, and nobody else's."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.keys import ALICE, BOB, KeyedApi, open_keyed_api

_FILES = (
    "/api/v1/outputs/{}/video",
    "/api/v1/outputs/{}/download",
    "/api/v1/outputs/{}/thumbnail",
    "/api/v1/outputs/{}/last_frame",
    "/api/v1/outputs/{}/spritesheet",
    "/v1/videos/{}/content",
    "/v1/videos/{}/content?variant=thumbnail",
    "/v1/videos/{}/content?variant=spritesheet",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("caching")) as opened:
        yield opened


@pytest.mark.parametrize("path", _FILES)
def test_a_browser_asks_before_it_shows_a_file_again(path: str, api: KeyedApi) -> None:
    url = path.format(api.complete(ALICE).id)
    first = api.call(ALICE, "GET", url)
    known = {"if-none-match": first.headers["etag"]}
    again = api.call(ALICE, "GET", url, headers=known)
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert {answer.headers["cache-control"] for answer in (first, again)} == {"private, no-cache"}

    assert api.call(BOB, "GET", url, headers=known).status_code == 404
    assert api.client.get(url, headers=known).status_code == 401
    assert api.call(ALICE, "DELETE", url.partition("?")[0].rpartition("/")[0]).status_code == 200
    assert api.call(ALICE, "GET", url, headers=known).status_code == 404


@pytest.mark.parametrize("file", ["video", "download", "thumbnail", "last_frame"])
def test_a_signed_link_is_not_served_from_a_cache_after_the_deletion(file: str, api: KeyedApi) -> None:
    video_id = api.complete(ALICE).id
    signed = api.call(ALICE, "GET", f"/api/v1/outputs/{video_id}/link", params={"file": file}).json()["url"]
    link = "{0.path}?{0.query}".format(urlsplit(signed))
    part = api.client.get(link, headers={"range": "bytes=0-3"})
    assert (part.status_code, part.headers["cache-control"]) == (206, "private, no-cache")
    assert api.call(ALICE, "DELETE", f"/api/v1/outputs/{video_id}").status_code == 200
    for headers in ({"if-none-match": part.headers["etag"]}, {"range": "bytes=0-3", "if-range": part.headers["etag"]}):
        assert api.client.get(link, headers=headers).status_code == 404


def test_a_preview_is_not_kept(api: KeyedApi) -> None:
    job_id = api.submit(ALICE)
    assert api.services.store.runner.claim(job_id, lease_seconds=60) is not None
    path = api.services.storage.work.preview_path(job_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"preview")
    answer = api.call(ALICE, "GET", f"/api/v1/generation/{job_id}/preview")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
