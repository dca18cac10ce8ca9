"""Several applications in one process, which share their routes."""

from pathlib import Path

from tests.http_api import open_api


def test_applications_of_one_process_share_neither_jobs_nor_settings(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with open_api(tmp_path / "first") as first, open_api(tmp_path / "second", models=[{"id": "tiny-t2v"}]) as second:
        task_id = first.post("/api/v1/generation/submit", json={"prompt": "a fox"}).json()["task_id"]
        assert first.get(f"/api/v1/generation/{task_id}").status_code == 200
        assert second.get(f"/api/v1/generation/{task_id}").status_code == 404
        assert [model["id"] for model in second.get("/v1/models").json()["data"]] == ["tiny-t2v"]
        assert len(first.get("/v1/models").json()["data"]) > 1
