"""The page while its service is killed and restarted."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.page.opening import open_page
from tests.service import LONG, Service


def test_an_open_page_survives_the_death_of_the_service_in_mid_job(browser: Browser, tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.start()
    try:
        task_id = service.submit(**LONG, prompt="survivor")
        with open_page(browser, f"{service.url}/#/queue") as page:
            job = page.locator(f"[data-job={task_id}]")
            expect(job).to_contain_text("Step ")
            service.kill()
            expect(page.get_by_text("The service does not respond.")).to_be_visible()
            expect(job).to_contain_text("Last known: Generating")
            service.start()
            expect(page.get_by_text("The service does not respond.")).to_be_hidden()
            expect(job).to_contain_text("Attempt 2")
            expect(job).to_contain_text("Done", timeout=180_000)
            expect(page.get_by_text("Video done", exact=True)).to_have_count(1)
    finally:
        service.stop()
