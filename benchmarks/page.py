"""Scrolls through the page's gallery of 5,000 videos in a real Chromium, and measures how long it holds up the browser.

The service runs without Ray, because the page reads stored videos only. The page must be built: `make page`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from benchmarks.support.stored_jobs import store_copies
from benchmarks.support.stored_videos import store_video
from deployments.jobs.job import JobState
from deployments.jobs.store import JobStore
from tests.http_api import serving_api
from tests.page.chromium import launch_chromium

VIDEOS = 5000
QUICK_VIDEOS = 500
SHAPES = ((832, 480), (480, 832), (640, 640), (832, 480))
_WHEEL_PIXELS = 700
_WHEEL_MS = 30
_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def main() -> None:
    """Measures, and reports the rows."""
    arguments = parse_arguments("Scroll through the page's gallery of 5,000 videos.")
    videos = QUICK_VIDEOS if arguments.quick else VIDEOS
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        folder = Path(name)
        with serving_api(folder) as url, sync_playwright() as playwright:
            _store(folder / "data", videos)
            browser = launch_chromium(playwright)
            report(_scroll(browser, url, videos, folder / "trace.json"), arguments.json)
            browser.close()


def _store(data: Path, videos: int) -> None:
    store = JobStore(f"sqlite:///{data}/jobs.db")
    for index, (width, height) in enumerate(SHAPES):
        job = store_video(store, data, prompt=f"Video {index}", width=width, height=height)
        store_copies(store, job.id, videos // len(SHAPES) - 1, JobState.COMPLETED)
    store.database.close()


def _scroll(browser: Browser, url: str, videos: int, trace: Path) -> list[Row]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(_SHIFTS)
    page.goto(f"{url}/#/gallery")
    page.wait_for_selector("[data-video]")
    page.wait_for_load_state("networkidle")
    page.mouse.move(700, 500)
    browser.start_tracing(page=page, path=trace, categories=["toplevel"])
    _scroll_to_end(page)
    browser.stop_tracing()
    wall, cpu = _longest_task_ms(json.loads(trace.read_text()))
    where = f"gallery of {videos} videos"
    return [
        Row(f"{where}: longest task while scrolling, CPU time", cpu, "ms", 50.0),
        Row(f"{where}: longest task while scrolling, with waiting for a core", wall, "ms"),
        Row(f"{where}: layout shift", page.evaluate("window.shift"), "", 0.01),
        Row(f"{where}: thumbnails in the document", page.locator("[data-video]").count(), "", 100.0),
    ]


def _scroll_to_end(page: Page) -> None:
    """Turns the wheel until all videos have arrived and the page is at its end."""
    grid = page.locator("[role=grid]")
    place, unchanged = -1, 0
    while unchanged < 15 or grid.get_attribute("aria-rowcount") == "-1":
        page.mouse.wheel(0, _WHEEL_PIXELS)
        page.wait_for_timeout(_WHEEL_MS)
        before, place = place, page.evaluate("scrollY")
        unchanged = unchanged + 1 if place == before else 0


def _longest_task_ms(trace: dict[str, Any]) -> tuple[float, float]:
    """Returns the longest task of the page's main thread: its time, and its CPU time."""
    events = trace["traceEvents"]
    names = [event for event in events if event.get("name") == "thread_name"]
    main = {(event["pid"], event["tid"]) for event in names if event["args"]["name"] == "CrRendererMain"}
    tasks = [
        event
        for event in events
        if event["name"].endswith("RunTask") and (event["pid"], event["tid"]) in main and "dur" in event
    ]
    return max(task["dur"] for task in tasks) / 1000, max(task.get("tdur", 0) for task in tasks) / 1000


if __name__ == "__main__":
    main()
