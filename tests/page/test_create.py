"""The page on which videos are made, from an empty form to the video."""

from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.opening import open_page
from tests.service import Service, wait_until

_PROMPT = "a red circle moving right on a navy background"


def _generate(page: Page) -> None:
    page.get_by_role("button", name="Generate", exact=True).click()


def _choose_fast(page: Page) -> None:
    page.get_by_role("radio", name="Fast").check()


def _submitted(page: Page) -> str:
    """Returns the id of the job that the page has submitted last."""
    wait_until(lambda: page.evaluate("JSON.parse(localStorage.submitted ?? '[]').length > 0"))
    return str(page.evaluate("JSON.parse(localStorage.submitted)[0]"))


def _video(page: Page) -> Locator:
    return page.get_by_role("region", name="Your video").locator("video")


def test_from_an_empty_form_to_a_playing_video(page: Page, api: httpx.Client) -> None:
    expect(page.get_by_text("Your video appears here.")).to_be_visible()
    example = page.get_by_role("list", name="Try one").get_by_role("button").first
    prompt = example.inner_text()
    example.click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(prompt)
    _choose_fast(page)
    _generate(page)
    expect(_video(page)).to_be_visible()
    wait_until(lambda: page.evaluate("document.querySelector('video').currentTime > 0"))
    task = api.get(f"/api/v1/generation/{_submitted(page)}").json()
    assert (task["prompt"], task["steps"], task["status"]) == (prompt, 4, "completed")
    expect(page.get_by_text("Video done", exact=True)).to_be_visible()


def test_first_and_last_frame_choose_the_model_that_takes_both(page: Page, api: httpx.Client, tmp_path: Path) -> None:
    for name, color in (("first", (200, 30, 30)), ("last", (30, 30, 200))):
        Image.new("RGB", (120, 96), color).save(tmp_path / f"{name}.png")
    page.get_by_label("First frame: Drop").set_input_files(tmp_path / "first.png")
    page.get_by_label("Last frame: Drop").set_input_files(tmp_path / "last.png")
    expect(page.get_by_label("Last frame: Replace")).to_be_attached()
    expect(page.get_by_role("combobox", name="Model")).to_contain_text("Automatic: Built-in tiny image-to-video")
    expect(page.get_by_label("Size", exact=True)).to_have_value("")
    page.get_by_label("Prompt", exact=True).fill(_PROMPT)
    _choose_fast(page)
    _generate(page)
    expect(_video(page)).to_be_visible()
    task = api.get(f"/api/v1/generation/{_submitted(page)}").json()
    assert task["model"] == "tiny-i2v"
    assert task["image_path"]
    assert task["end_image_path"]
    assert task["image_path"] != task["end_image_path"]


def test_a_pasted_picture_becomes_the_first_frame(page: Page) -> None:
    page.evaluate(
        """async () => {
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 64;
            canvas.getContext("2d").fillRect(0, 0, 64, 64);
            const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
            const data = new DataTransfer();
            data.items.add(new File([blob], "a.png", { type: "image/png" }));
            window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }"""
    )
    expect(page.get_by_label("First frame: Replace")).to_be_attached()


def test_an_unreadable_file_is_explained_in_the_services_words(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    page.get_by_label("First frame: Drop").set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("image")


def test_a_reload_keeps_the_form_and_the_job(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).fill(_PROMPT)
    page.get_by_role("button", name="Keep this seed").click()
    seed = page.get_by_role("textbox", name="Seed").input_value()
    _generate(page)
    job = _submitted(page)
    wait_until(lambda: page.evaluate("JSON.parse(localStorage.draft ?? '{}').seed !== null"))
    page.reload()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(_PROMPT)
    expect(page.get_by_role("textbox", name="Seed")).to_have_value(seed)
    expect(_video(page)).to_be_visible()
    assert job in str(_video(page).get_attribute("src"))


def test_a_cancelled_job_says_so_and_can_be_started_again(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).fill(_PROMPT)
    steps = page.get_by_role("slider", name="Steps")
    steps.press("End")
    page.get_by_role("slider", name="Length").press("End")
    _generate(page)
    result = page.get_by_role("region", name="Your video")
    result.get_by_role("button", name="Cancel").click()
    expect(result.get_by_text("This video was cancelled")).to_be_visible()
    result.get_by_role("button", name="Retry").click()
    result.get_by_role("button", name="Cancel").click()
    expect(result.get_by_text("This video was cancelled")).to_be_visible()


def test_an_enhanced_prompt_shows_its_additions_and_can_be_undone(page: Page) -> None:
    field = page.get_by_label("Prompt", exact=True)
    field.fill("a fox runs through snow")
    page.get_by_role("button", name="Enhance").click()
    expect(page.locator("ins").first).to_be_visible()
    page.get_by_role("button", name="Use it").click()
    expect(field).not_to_have_value("a fox runs through snow")
    page.get_by_role("button", name="Undo the enhancement").click()
    expect(field).to_have_value("a fox runs through snow")


def test_a_preset_restores_the_whole_form(page: Page) -> None:
    _choose_fast(page)
    page.get_by_role("radio", name="Portrait").check()
    page.get_by_role("button", name="My presets").click()
    page.get_by_role("menuitem", name="Save these settings").click()
    page.get_by_label("Name of the preset").fill("quick portrait")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="My presets").click()
    page.get_by_role("menuitem", name="Clear the form").click()
    expect(page.get_by_role("radio", name="Square")).to_be_checked()
    page.reload()
    page.get_by_role("button", name="My presets").click()
    page.get_by_role("menuitem", name="quick portrait", exact=True).click()
    expect(page.get_by_role("radio", name="Portrait")).to_be_checked()
    expect(page.get_by_role("radio", name="Fast")).to_be_checked()


def test_a_storyboards_parts_are_moved_by_keyboard_and_become_one_video(page: Page, api: httpx.Client) -> None:
    page.get_by_role("radio", name="Storyboard").check()
    page.get_by_label("Part 1: Prompt").fill("a blue star spins")
    page.get_by_label("Part 2: Prompt").fill("a red circle grows")
    handle = page.get_by_role("button", name="Move part 2")
    handle.focus()
    handle.press("Space")
    expect(page.get_by_text("Lifted from place 2 of 2.")).to_be_attached()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_text("Now at place 1 of 2.")).to_be_attached()
    page.keyboard.press("Space")
    expect(page.get_by_label("Part 1: Prompt")).to_have_value("a red circle grows")
    _choose_fast(page)
    _generate(page)
    expect(_video(page)).to_be_visible()
    task = api.get(f"/api/v1/generation/{_submitted(page)}").json()
    assert [part["prompt"] for part in task["segments"]] == ["a red circle grows", "a blue star spins"]


def test_settings_of_a_job_are_used_again(page: Page, service: Service) -> None:
    task = service.finished(prompt="a green star", steps=3, seed=77, resolution="96x160", num_frames=9)
    page.goto(f"{service.url}/#/?from={task['id']}")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a green star")
    expect(page.get_by_role("textbox", name="Seed")).to_have_value("77")
    expect(page.get_by_label("Size", exact=True)).to_have_value("96x160")
    expect(page.get_by_role("slider", name="Steps")).to_have_attribute("aria-valuenow", "3")
    expect(page.get_by_role("slider", name="Length")).to_have_attribute("aria-valuenow", "9")


def test_a_video_is_continued_from_its_last_frame(page: Page, service: Service, api: httpx.Client) -> None:
    source = service.finished()
    page.goto(f"{service.url}/#/?continue={source['id']}")
    expect(page.get_by_text("Continues a video from its last frame")).to_be_visible()
    _choose_fast(page)
    _generate(page)
    expect(_video(page)).to_be_visible()
    assert api.get(f"/api/v1/generation/{_submitted(page)}").json()["source_task_id"] == source["id"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "queue", "gallery", "models", "system"])
def test_every_page_is_accessible_in_both_themes(path: str, theme: str, browser: Browser, service: Service) -> None:
    axe = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
    with open_page(browser, f"{service.url}/#/{path}", color_scheme=theme, bypass_csp=True) as page:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        page.add_script_tag(path=axe)
        found = page.evaluate("axe.run().then((result) => result.violations)")
        assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []


def test_the_page_fits_a_phone(browser: Browser, service: Service) -> None:
    with open_page(browser, service.url, is_mobile=True, has_touch=True) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_in_viewport()
        expect(page.get_by_role("link", name="Gallery")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_page_speaks_chinese(browser: Browser, service: Service) -> None:
    with open_page(browser, service.url, locale="zh-CN") as page:
        expect(page.get_by_role("heading", name="创作")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "zh"
