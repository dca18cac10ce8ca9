"""The page of the queue: live jobs, and what users do to them."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from deployments.jobs.store import JobStore
from tests.service import LONG, Service

_ERROR = {
    "type": "internal",
    "code": "out_of_memory",
    "message": "The GPU ran out of memory.",
    "param": None,
    "suggestions": ["Generate at 832x480."],
    "can_retry": True,
}


@pytest.fixture
def paused(api: httpx.Client) -> Iterator[None]:
    """Pauses the queue during the test. The jobs that the test leaves behind are cancelled."""
    api.post("/api/v1/queue/pause").raise_for_status()
    yield
    for task in api.get("/api/v1/queue/poll").json()["tasks"]:
        api.post(f"/api/v1/queue/{task['id']}/cancel")
    api.post("/api/v1/queue/resume").raise_for_status()


def _open(page: Page) -> None:
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_role("heading", name="Queue", exact=True)).to_be_visible()


def _job(page: Page, task_id: str) -> Locator:
    return page.locator(f"[data-job={task_id}]")


def _column(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title)


def _expect_order(page: Page, ids: list[str]) -> None:
    handles = _column(page, "Waiting").locator("[data-job]")
    expect(handles).to_have_count(len(ids))
    for handle, task_id in zip(handles.all(), ids, strict=True):
        expect(handle).to_have_attribute("data-job", task_id)


def _pending(api: httpx.Client) -> list[str]:
    tasks: list[dict[str, Any]] = api.get("/api/v1/queue/poll").json()["tasks"]
    return [task["id"] for task in tasks if task["status"] == "pending"]


def test_a_reloaded_page_shows_and_cancels_the_running_job(page: Page, service: Service) -> None:
    task_id = service.submit(**LONG, prompt="a long walk")
    _open(page)
    running = _column(page, "Running").locator(f"[data-job={task_id}]")
    expect(running).to_contain_text("Step ")
    expect(running.get_by_role("img", name="Live preview")).to_be_visible()
    page.reload()
    expect(running).to_contain_text("Step ")
    running.get_by_role("button", name="Cancel a long walk").click()
    expect(_column(page, "Ended").locator(f"[data-job={task_id}]")).to_contain_text("Cancelled")
    assert service.task(task_id)["status"] == "cancelled"


@pytest.mark.usefixtures("paused")
def test_jobs_are_reordered_by_mouse_and_by_keyboard(page: Page, api: httpx.Client, service: Service) -> None:
    first, second, third = (service.submit(prompt=f"{name} job") for name in ("first", "second", "third"))
    _open(page)
    _expect_order(page, [first, second, third])

    handle = page.get_by_role("button", name="Reorder: third job")
    target = _job(page, first).bounding_box()
    assert target is not None
    handle.hover()
    page.mouse.down()
    page.mouse.move(target["x"] + 10, target["y"] + 30, steps=10)
    expect(page.get_by_text("Now at place 1 of 3.")).to_be_attached()
    page.mouse.up()
    _expect_order(page, [third, first, second])
    expect(_job(page, third)).to_contain_text("Position 1")
    page.reload()
    _expect_order(page, [third, first, second])
    assert _pending(api) == [third, first, second]

    page.get_by_role("button", name="Reorder: third job").focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("Lifted from place 1 of 3.")).to_be_attached()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_text("Now at place 2 of 3.")).to_be_attached()
    page.keyboard.press("Space")
    _expect_order(page, [first, third, second])
    expect(_job(page, third)).to_contain_text("Position 2")
    page.reload()
    _expect_order(page, [first, third, second])
    assert _pending(api) == [first, third, second]


def test_a_paused_queue_waits_until_it_is_resumed(page: Page, api: httpx.Client, service: Service) -> None:
    _open(page)
    page.get_by_role("button", name="Pause the queue").click()
    expect(page.get_by_text("The queue is paused.")).to_be_visible()
    try:
        task_id = service.submit(prompt="patience")
        expect(_column(page, "Waiting").locator(f"[data-job={task_id}]")).to_be_visible()
        assert api.get("/api/v1/queue").json()["paused"] is True
    finally:
        page.get_by_role("button", name="Resume the queue").click()
    ended = _column(page, "Ended").locator(f"[data-job={task_id}]")
    expect(ended).to_contain_text("Done")
    expect(page.get_by_text("Video done", exact=True)).to_have_count(1)
    expect(ended.get_by_role("link")).to_have_attribute("href", re.compile(f"#/gallery\\?video={task_id}$"))


@pytest.mark.usefixtures("paused")
def test_a_failed_job_shows_its_error_and_is_deleted_or_retried(page: Page, service: Service) -> None:
    task_id = service.submit(prompt="too large")
    _open(page)
    expect(_column(page, "Waiting").locator(f"[data-job={task_id}]")).to_be_visible()
    store = JobStore(f"sqlite:///{service.data_dir / 'jobs.db'}", migrate=False)
    claimed = store.runner.claim(task_id, lease_seconds=60)
    assert claimed is not None
    store.runner.fail(task_id, claimed.fencing_token, _ERROR)
    store.database.close()

    ended = _column(page, "Ended").locator(f"[data-job={task_id}]")
    expect(ended).to_contain_text("The GPU ran out of memory.")
    expect(ended).to_contain_text("Generate at 832x480.")
    expect(page.get_by_text("Video failed", exact=True)).to_have_count(1)

    ended.get_by_role("button", name="More for too large").click()
    page.get_by_role("menuitem", name="Delete the job").click()
    expect(ended).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    ended.get_by_role("button", name="Retry").click()
    expect(_column(page, "Waiting").locator(f"[data-job={task_id}]")).to_be_visible()
    expect(ended).to_have_count(0)
    assert service.task(task_id)["status"] == "pending"


@pytest.mark.usefixtures("paused")
def test_a_batch_is_one_row_that_is_cancelled_as_a_whole(page: Page, api: httpx.Client, service: Service) -> None:
    task_id = service.submit(prompt="several", num_outputs=3)
    batch_id = service.task(task_id)["batch_id"]
    _open(page)
    batch = page.locator(f"[data-batch={batch_id}]")
    expect(batch).to_contain_text("3 variations · 0 of 3 done")
    batch.get_by_role("button", name="Show the variations").click()
    expect(batch.locator("[data-job]")).to_have_count(3)
    batch.get_by_role("button", name="Cancel the batch").click()
    expect(batch).to_have_count(0)
    assert api.get(f"/api/v1/batches/{batch_id}").json()["cancelled"] == 3


def test_polling_says_so_and_notices_the_end_of_a_job_once(page: Page, service: Service) -> None:
    page.route_web_socket("**/api/v1/ws", lambda socket: socket.close())
    page.reload()
    _open(page)
    expect(page.get_by_text("Updates are slower")).to_be_visible()
    task_id = service.submit(prompt="without a socket", resolution="96x96", num_frames=17, steps=100)
    expect(_column(page, "Ended").locator(f"[data-job={task_id}]")).to_contain_text("Done")
    expect(page.get_by_text("Video done", exact=True)).to_have_count(1)
