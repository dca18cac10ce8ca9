"""The page of the service's state."""

import re

from playwright.sync_api import Page, expect


def _open(page: Page) -> None:
    page.get_by_role("link", name="System").click()
    expect(page.get_by_role("heading", name="System", level=1)).to_be_visible()


def test_the_state_of_the_service_is_shown_in_words_and_charts(page: Page) -> None:
    _open(page)
    expect(page.get_by_text("Everything works")).to_be_visible()
    expect(page.get_by_role("meter", name="Memory")).to_have_attribute("value", re.compile("[0-9]+"))
    for period in ("1 hour", "7 days"):
        page.get_by_role("radio", name=period).check()
        expect(page.get_by_text("on average").first).to_be_visible()
        expect(page.locator("figure canvas").first).to_be_visible()
    link = page.get_by_role("link", name="API documentation")
    expect(link).to_have_attribute("href", page.url.partition("#")[0] + "docs")


def test_mock_mode_is_switched_on_with_a_banner_and_off(page: Page) -> None:
    _open(page)
    switch = page.get_by_role("switch", name="Mock mode")
    switch.click()
    try:
        expect(switch).to_be_checked()
        expect(page.get_by_text("Mock mode is on")).to_be_visible()
    finally:
        switch.click()
    expect(switch).not_to_be_checked()
    expect(page.get_by_text("Mock mode is on")).to_have_count(0)


def test_an_administrator_finds_rays_dashboard(page: Page) -> None:
    _open(page)
    page.get_by_role("button", name="Ray's dashboard").click()
    dialog = page.get_by_role("dialog", name="Ray's dashboard")
    address = dialog.get_by_role("link").get_attribute("href") or ""
    assert address.startswith("http://127.0.0.1:")
    expect(dialog).to_contain_text("ray get-auth-token")
