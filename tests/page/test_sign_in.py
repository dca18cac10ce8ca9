"""Signing in with a key, what a key without a scope sees, and the keys that an administrator manages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from deployments.jobs.api_keys import Scope
from deployments.jobs.store import JobStore
from tests.http_api import serving_api
from tests.page.opening import open_page
from tests.service import wait_until


@dataclass(frozen=True)
class KeyedPage:
    """A service that needs keys, and where nothing runs the jobs."""

    url: str
    store: JobStore

    def make_key(self, owner: str, *scopes: Scope) -> tuple[str, str]:
        """Creates a key, and returns its id and its text."""
        key, text = self.store.keys.create(owner, scopes)
        return key.id, text


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[KeyedPage]:
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    with serving_api(tmp_path, allow_anonymous=False) as url:
        yield KeyedPage(url, store)
    store.database.close()


def _sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation")).to_be_visible()


def test_a_visitor_signs_in_where_they_were_and_signs_out(browser: Browser, keyed: KeyedPage) -> None:
    _, key = keyed.make_key("alice", Scope.READ, Scope.SUBMIT)
    with open_page(browser, f"{keyed.url}/#/models") as page:
        page.get_by_label("API key").fill("wan22_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
        _sign_in(page, key)
        expect(page.get_by_role("heading", name="Models", level=1)).to_be_visible()
        assert key not in page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        page.reload()
        expect(page.get_by_role("heading", name="Models", level=1)).to_be_visible()
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_role("menuitem", name="Sign out")).to_contain_text("alice")
        page.get_by_role("menuitem", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_revoked_key_leads_back_to_the_sign_in(browser: Browser, keyed: KeyedPage) -> None:
    key_id, key = keyed.make_key("alice", Scope.READ)
    with open_page(browser, f"{keyed.url}/#/system") as page:
        _sign_in(page, key)
        keyed.store.keys.revoke(key_id)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.url.endswith("#/system")


def test_a_key_without_a_scope_is_not_offered_what_it_cannot_do(browser: Browser, keyed: KeyedPage) -> None:
    _, key = keyed.make_key("reader", Scope.READ)
    with open_page(browser, f"{keyed.url}/#/models") as page:
        _sign_in(page, key)
        expect(page.get_by_text("Your key can only look")).to_be_visible()
        expect(page.get_by_role("heading", name="tiny-neon")).to_be_visible()
        expect(page.get_by_text("Only administrators can change this")).to_be_visible()
        expect(page.get_by_label("Add a LoRA")).to_have_count(0)
        page.get_by_role("link", name="System").click()
        expect(page.get_by_role("switch", name="Mock mode")).to_be_disabled()
        expect(page.get_by_role("button", name="Ray's dashboard")).to_have_count(0)
        expect(page.get_by_role("heading", name="API keys")).to_have_count(0)


def test_an_administrator_creates_and_revokes_a_key(browser: Browser, keyed: KeyedPage) -> None:
    _, admin = keyed.make_key("admin", Scope.ADMIN)
    with open_page(browser, f"{keyed.url}/#/system") as page:
        _sign_in(page, admin)
        page.get_by_role("button", name="Create a key").click()
        page.get_by_role("textbox", name="Owner").fill("no name")
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Use 1 to 64 letters")
        page.get_by_role("textbox", name="Owner").fill("carol")
        page.get_by_role("button", name="Create", exact=True).click()
        dialog = page.get_by_role("dialog", name="Key of carol")
        made = dialog.get_by_role("code").inner_text()
        dialog.get_by_role("button", name="I have copied it").click()
        carol = page.get_by_role("listitem").filter(has_text="carol")
        expect(carol).to_contain_text("Valid")
        assert made not in page.content()

        with open_page(browser, keyed.url) as other:
            _sign_in(other, made)
            carol.get_by_role("button", name="Revoke").click()
            page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
            expect(carol).to_contain_text("Revoked")
            expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    stored = {item.owner: item for item in keyed.store.keys.all()}
    assert wait_until(lambda: stored["carol"].revoked_at)
