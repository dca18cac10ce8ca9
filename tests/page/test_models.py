"""The page of models and LoRAs."""

from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.loras import write_lora


def _open(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Models", level=1)).to_be_visible()


def test_each_model_tells_where_its_files_are(page: Page, api: httpx.Client) -> None:
    _open(page)
    for status in api.get("/api/v1/models/status").json().values():
        card = page.get_by_role("listitem").filter(has=page.get_by_text(status["model_id"], exact=True)).first
        expect(card).to_contain_text(status["title"])
        expect(card.get_by_text("On the disk").or_(card.get_by_text("Loaded", exact=True))).to_be_visible()
    expect(page.get_by_text("free on the disk")).to_be_visible()


def test_a_lora_that_fits_is_added_and_deleted(page: Page, api: httpx.Client, tmp_path: Path) -> None:
    file = write_lora(tmp_path / "page-style.safetensors", metadata={"modelspec.trigger_phrase": "page style"})
    _open(page)
    page.get_by_label("Add a LoRA").set_input_files(file)
    expect(page.get_by_text("page-style is ready to use")).to_be_visible()
    row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="page-style"))
    expect(row).to_contain_text("tiny-t2v")
    page.get_by_label("Add a LoRA").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("There is a LoRA page-style already")
    page.get_by_role("button", name="Replace it").click()
    expect(page.get_by_text("page-style is ready to use")).to_be_visible()
    row.get_by_role("button", name="Delete page-style").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(row).to_have_count(0)
    assert "page-style" not in [lora["name"] for lora in api.get("/api/v1/lora/list").json()["loras"]]


def test_a_lora_that_fits_no_model_is_refused_in_the_services_words(
    page: Page, api: httpx.Client, tmp_path: Path
) -> None:
    file = write_lora(tmp_path / "page-odd.safetensors", width=100)
    with file.open("rb") as content:
        refused = api.post("/api/v1/lora/upload", files={"file": (file.name, content)})
    _open(page)
    page.get_by_label("Add a LoRA").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text(refused.json()["error"]["message"])
    expect(page.get_by_role("heading", name="page-odd")).to_have_count(0)
