"""The page on which videos are made."""

from playwright.sync_api import Page, expect


def test_the_page_opens(page: Page) -> None:
    expect(page.get_by_role("heading", name="Create")).to_be_visible()
