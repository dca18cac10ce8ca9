"""Routes of completed videos and of uploads, as a gallery uses them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.keys import ALICE, BOB, KeyedApi, open_keyed_api
from tests.pictures import png

_OUTPUTS = "/api/v1/outputs"


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("gallery")) as opened:
        yield opened


def _list(api: KeyedApi, **query: Any) -> list[str]:
    answer = api.call(ALICE, "GET", _OUTPUTS, params=query)
    assert answer.status_code == 200, answer.text
    return [video["id"] for video in answer.json()["videos"]]


def test_a_list_is_searched_filtered_and_ordered(api: KeyedApi) -> None:
    first, second = (api.complete(ALICE).id for _ in range(2))
    api.complete(BOB)
    assert _list(api) == [second, first]
    assert _list(api, order="asc", limit=1) == [first]
    assert _list(api, order="asc", after=first) == [second]
    assert _list(api, query="RED circle") == [second, first]
    assert _list(api, query="cat") == []
    assert _list(api, shape="portrait") == []
    assert _list(api, model_type="T2V-A14B", is_mock=False, shape="square") == [second, first]
    assert _list(api, completed_from="2100-01-01T00:00:00") == []
    assert _list(api, completed_before="2100-01-01T00:00:00Z") == [second, first]
    for query in ({"shape": "round"}, {"order": "random"}, {"query": "x" * 201}, {"tag": "a,b"}, {"limit": 0}):
        assert api.call(ALICE, "GET", _OUTPUTS, params=query).status_code in (400, 422), query


def test_favorites_and_tags_are_stored_and_filter_the_list(api: KeyedApi) -> None:
    job_id, other = api.complete(ALICE).id, api.complete(ALICE).id
    path = f"{_OUTPUTS}/{job_id}"
    answer = api.call(ALICE, "PATCH", path, json={"favorite": True, "tags": [" Sea ", "sea", "雪"]}).json()
    assert (answer["favorite"], answer["tags"]) == (True, ["sea", "雪"])
    assert api.call(ALICE, "GET", path).json() == answer
    assert _list(api, favorite=True) == _list(api, tag="SEA") == [job_id]
    assert _list(api, favorite=False) == [other]
    tags = api.call(ALICE, "GET", f"{_OUTPUTS}/tags").json()["tags"]
    assert tags == [{"tag": "sea", "count": 1}, {"tag": "雪", "count": 1}]
    for body in ({"tags": [""]}, {"tags": ["a,b"]}, {"tags": ["x" * 41]}, {"tags": ["x"] * 21}, {"tag": "x"}):
        assert api.call(ALICE, "PATCH", path, json=body).status_code in (400, 422), body
    assert api.call(ALICE, "GET", path).json() == answer


def test_a_pending_video_cannot_be_marked_or_restored(api: KeyedApi) -> None:
    job_id = api.submit(ALICE)
    marked = api.call(ALICE, "PATCH", f"{_OUTPUTS}/{job_id}", json={"favorite": True})
    assert (marked.status_code, marked.json()["error"]["code"]) == (409, "video_not_ready")
    assert api.call(ALICE, "POST", f"{_OUTPUTS}/{job_id}/restore").status_code == 409


def test_a_deletion_with_undo_hides_the_video_until_it_is_restored(api: KeyedApi) -> None:
    job_id = api.complete(ALICE).id
    path = f"{_OUTPUTS}/{job_id}"
    assert api.call(ALICE, "DELETE", path, params={"undo_seconds": 60}).status_code == 200
    listed = api.call(ALICE, "GET", _OUTPUTS).json()
    assert (listed["videos"], listed["total_count"], listed["total_size_mb"]) == ([], 0, 0)
    assert api.call(ALICE, "GET", "/v1/videos").json()["data"] == []
    queue = api.call(ALICE, "GET", "/api/v1/queue").json()
    assert (queue["tasks"], queue["completed_tasks"]) == ([], 0)
    assert api.call(ALICE, "GET", f"/v1/videos/{job_id}").status_code == 200
    assert api.call(ALICE, "GET", path).json()["deletion_due_at"] is not None
    assert api.call(ALICE, "POST", f"{path}/restore").json()["deletion_due_at"] is None
    assert _list(api) == [job_id]
    assert api.call(ALICE, "DELETE", path, params={"undo_seconds": 86401}).status_code in (400, 422)
    assert api.call(ALICE, "DELETE", path).status_code == 200
    assert api.call(ALICE, "POST", f"{path}/restore").status_code == 404


def test_an_upload_is_returned_with_its_type_and_in_ranges(api: KeyedApi) -> None:
    picture = png()
    job = api.complete(ALICE)
    video = api.services.storage.path(f"outputs/{job.id}/{job.fencing_token}/video.mp4").read_bytes()
    for content, media_type in ((picture, "image/png"), (video, "video/mp4")):
        upload = api.call(ALICE, "POST", "/api/v1/uploads", files={"file": ("x.html", content, "text/html")}).json()
        path = f"/api/v1/uploads/{upload['id']}"
        answer = api.call(ALICE, "GET", path)
        assert (answer.content, answer.headers["content-type"]) == (content, media_type)
        assert answer.headers["content-disposition"] == "inline"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "no-cache" in answer.headers["cache-control"]
        part = api.call(ALICE, "GET", path, headers={"range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, content[4:8])
        known = {"if-none-match": answer.headers["etag"]}
        assert api.call(ALICE, "GET", path, headers=known).status_code == 304
        assert api.call(BOB, "GET", path, headers=known).json()["error"]["code"] == "upload_not_found"
    assert api.call(ALICE, "GET", "/api/v1/uploads/..%2Fjobs.db").status_code == 404
