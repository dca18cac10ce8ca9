"""The gallery: finding, watching, reusing, comparing, marking and deleting videos."""

import re
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.opening import open_page
from tests.pictures import png
from tests.service import Service

_AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
_WORD = "gallerywalk"
"""A word in the prompts of this module's videos only, by which a search finds them among those of other tests."""


@pytest.fixture
def videos(service: Service, api: httpx.Client) -> list[str]:
    """Ids of three small videos that differ in their prompts and shapes, newest first. The first test makes them."""
    listed = api.get("/api/v1/outputs", params={"query": _WORD}).json()["videos"]
    if not listed:
        service.finished(prompt=f"{_WORD} a red circle, снег 雪", seed=11, steps=2, num_frames=9, resolution="96x64")
        service.finished(prompt=f"{_WORD} a blue star", seed=12, steps=3, num_frames=5, resolution="64x96")
        service.finished(prompt=f"{_WORD} a green square", seed=13, steps=2, num_frames=9, resolution="64x64")
        listed = api.get("/api/v1/outputs", params={"query": _WORD}).json()["videos"]
    return [str(video["id"]) for video in listed]


@pytest.fixture
def gallery(page: Page, service: Service, videos: list[str]) -> Page:
    """The gallery with this module's videos."""
    page.goto(f"{service.url}/#/gallery?query={_WORD}")
    expect(_cards(page)).to_have_count(len(videos))
    return page


def _cards(page: Page) -> Locator:
    return page.get_by_role("grid", name="Videos").get_by_role("link")


def _card(page: Page, video_id: str) -> Locator:
    return page.locator(f"[data-video='{video_id}']")


def _viewer(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Video")


def _toolbar(page: Page) -> Locator:
    return page.get_by_role("toolbar")


def _select(page: Page, *video_ids: str) -> None:
    for video_id in video_ids:
        page.locator(f"[role=gridcell]:has([data-video='{video_id}']) input").check(force=True)


def test_a_search_and_filters_find_videos_and_are_part_of_the_address(gallery: Page, videos: list[str]) -> None:
    search = gallery.get_by_label("Search prompts")
    search.fill(f"{_WORD} СНЕГ 雪")
    expect(_cards(gallery)).to_have_count(1)
    expect(_card(gallery, videos[2])).to_be_visible()
    search.fill(f"{_WORD} 100%")
    expect(gallery.get_by_text("No video matches")).to_be_visible()
    gallery.get_by_role("link", name="Clear the filters").click()
    expect(search).to_have_value("")
    search.fill(_WORD)
    gallery.get_by_label("Shape").select_option("portrait")
    expect(_cards(gallery)).to_have_count(1)
    expect(_card(gallery, videos[1])).to_be_visible()
    gallery.reload()
    expect(_cards(gallery)).to_have_count(1)
    expect(gallery.get_by_label("Shape")).to_have_value("portrait")


def test_a_video_plays_while_the_pointer_is_on_it(gallery: Page, videos: list[str]) -> None:
    _card(gallery, videos[0]).hover()
    moving = _card(gallery, videos[0]).locator("video")
    expect(moving).to_be_attached()
    gallery.wait_for_function("document.querySelector('[data-video] video').currentTime > 0")
    gallery.mouse.move(0, 0)
    expect(moving).not_to_be_attached()


def test_the_viewer_shows_everything_and_closes_where_it_was_opened(gallery: Page, videos: list[str]) -> None:
    _card(gallery, videos[1]).click()
    expect(_viewer(gallery)).to_contain_text("a blue star")
    for text in ("64 × 96", "12", "5 frames at", "Time taken", "File size", "tiny-t2v"):
        expect(_viewer(gallery)).to_contain_text(text)
    gallery.wait_for_function("document.querySelector('[role=dialog] video').readyState > 0")
    gallery.keyboard.press("ArrowRight")
    expect(_viewer(gallery)).to_contain_text("a red circle")
    expect(gallery).to_have_url(re.compile(videos[2]))
    expect(_viewer(gallery).get_by_role("button", name="Next video")).to_be_disabled()
    gallery.keyboard.press("ArrowLeft")
    gallery.keyboard.press("ArrowLeft")
    expect(_viewer(gallery)).to_contain_text("a green square")
    gallery.keyboard.press("Escape")
    expect(_viewer(gallery)).not_to_be_visible()
    expect(_card(gallery, videos[0])).to_be_focused()


def test_the_keyboard_moves_opens_and_selects(gallery: Page, videos: list[str]) -> None:
    _card(gallery, videos[0]).focus()
    gallery.keyboard.press("ArrowRight")
    expect(_card(gallery, videos[1])).to_be_focused()
    gallery.keyboard.press("Space")
    expect(_toolbar(gallery)).to_contain_text("1 selected")
    gallery.keyboard.press("Shift+ArrowRight")
    expect(_toolbar(gallery)).to_contain_text("2 selected")
    gallery.keyboard.press("Escape")
    expect(_toolbar(gallery)).not_to_be_visible()
    gallery.keyboard.press("Control+a")
    expect(_toolbar(gallery)).to_contain_text("3 selected")
    gallery.keyboard.press("Escape")
    gallery.keyboard.press("Home")
    gallery.keyboard.press("Enter")
    expect(_viewer(gallery)).to_contain_text("a green square")


def test_a_range_is_selected_with_shift_and_the_mouse(gallery: Page, videos: list[str]) -> None:
    _select(gallery, videos[0])
    _card(gallery, videos[2]).click(modifiers=["Shift"])
    expect(_toolbar(gallery)).to_contain_text("3 selected")
    _card(gallery, videos[1]).click()
    expect(_toolbar(gallery)).to_contain_text("2 selected")
    _toolbar(gallery).get_by_role("button", name="Select all").click()
    expect(_toolbar(gallery)).to_contain_text("3 selected")
    _toolbar(gallery).get_by_role("button", name="Clear the selection").click()
    expect(_toolbar(gallery)).not_to_be_visible()


def test_settings_are_used_again_with_the_inputs(page: Page, service: Service, api: httpx.Client) -> None:
    upload = api.post("/api/v1/uploads", files={"file": png(64, 64)}).json()["id"]
    task = service.finished(prompt="gallerystill waves", model_type="tiny-i2v", image_path=upload, seed=5, steps=2)
    page.goto(f"{service.url}/#/gallery?video={task['id']}")
    picture = _viewer(page).get_by_role("img", name="First frame")
    expect(picture).to_be_visible()
    assert page.evaluate("document.querySelector('[role=dialog] img').naturalWidth") == 64
    _viewer(page).get_by_role("link", name="Use these settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("gallerystill waves")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("5")
    expect(page.get_by_label("First frame: Replace")).to_be_attached()


def test_a_video_is_continued_and_edited_on_the_form(gallery: Page, videos: list[str]) -> None:
    _card(gallery, videos[0]).click()
    _viewer(gallery).get_by_role("link", name="Continue").click()
    expect(gallery.get_by_text("Continues a video from its last frame")).to_be_visible()
    gallery.go_back()
    _viewer(gallery).get_by_role("link", name="Edit").click()
    expect(gallery.get_by_role("slider", name="Change")).to_be_visible()


def test_another_seed_makes_another_video(gallery: Page, videos: list[str], api: httpx.Client) -> None:
    _card(gallery, videos[1]).click()
    with gallery.expect_response(re.compile("/generation/submit")) as submitted:
        _viewer(gallery).get_by_role("button", name="Again with another seed").click()
    job_id = submitted.value.json()["task_id"]
    made, source = (api.get(f"/api/v1/generation/{each}").json() for each in (job_id, videos[1]))
    for name in ("prompt", "model", "resolution", "num_frames", "steps", "guidance_scale"):
        assert made[name] == source[name], name
    assert made["seed"] != source["seed"]
    api.post(f"/api/v1/queue/{job_id}/cancel")
    api.delete(f"/api/v1/queue/{job_id}")


def test_compared_videos_share_a_clock_and_show_what_differs(gallery: Page, videos: list[str]) -> None:
    _select(gallery, videos[0], videos[2])
    _toolbar(gallery).get_by_role("button", name="Compare").click()
    dialog = gallery.get_by_role("dialog", name="Comparison")
    rows = dialog.get_by_role("row")
    expect(rows.filter(has_text="Seed")).to_have_attribute("data-differs", "true")
    expect(rows.filter(has_text="Steps")).to_have_attribute("data-differs", "false")
    dialog.get_by_role("button", name="Play").click()
    gallery.wait_for_function("[...document.querySelectorAll('[role=dialog] video')].every((v) => v.currentTime > 0)")
    dialog.get_by_role("button", name="Pause").click()
    dialog.get_by_role("slider", name="Position").focus()
    gallery.keyboard.press("End")
    gallery.wait_for_function(
        """() => {
            const [first, second] = [...document.querySelectorAll('[role=dialog] video')];
            return first.paused && second.paused && first.currentTime > 0.3
                && Math.abs(first.currentTime - second.currentTime) < 0.07;
        }"""
    )
    dialog.get_by_label("Only differences").click()
    expect(rows.filter(has_text="Steps")).not_to_be_visible()


def test_favorites_and_tags_stay_and_filter_the_list(gallery: Page, videos: list[str], api: httpx.Client) -> None:
    _card(gallery, videos[0]).hover()
    cell = gallery.locator(f"[role=gridcell]:has([data-video='{videos[0]}'])")
    cell.get_by_role("button", name="Add to the favorites").click()
    expect(cell.get_by_role("button", name="Remove from the favorites")).to_be_visible()
    _card(gallery, videos[1]).click()
    _viewer(gallery).get_by_label("Add a tag").first.fill("Sea")
    gallery.keyboard.press("Enter")
    expect(_viewer(gallery).get_by_role("button", name="Remove the tag sea")).to_be_visible()
    gallery.keyboard.press("Escape")
    gallery.reload()
    gallery.get_by_role("button", name="Favorites", exact=True).click()
    expect(_cards(gallery)).to_have_count(1)
    expect(_card(gallery, videos[0])).to_be_visible()
    gallery.get_by_role("button", name="Favorites", exact=True).click()
    gallery.get_by_label("Tag", exact=True).select_option("sea")
    expect(_cards(gallery)).to_have_count(1)
    expect(_card(gallery, videos[1])).to_be_visible()
    stored = {each: api.get(f"/api/v1/outputs/{each}").json() for each in videos}
    assert [stored[each]["favorite"] for each in videos] == [True, False, False]
    assert [stored[each]["tags"] for each in videos] == [[], ["sea"], []]
    for each in videos:
        api.patch(f"/api/v1/outputs/{each}", json={"favorite": False, "tags": []})


def test_a_deletion_is_undone_also_after_the_viewer_has_moved_on(gallery: Page, videos: list[str]) -> None:
    _card(gallery, videos[0]).click()
    _viewer(gallery).get_by_role("button", name="Delete").click()
    expect(_viewer(gallery)).to_contain_text("a blue star")
    gallery.keyboard.press("Escape")
    expect(_cards(gallery)).to_have_count(2)
    gallery.get_by_role("button", name="Undo").click()
    expect(_cards(gallery)).to_have_count(3)


def test_several_videos_are_deleted_and_a_reload_does_not_bring_them_back(
    gallery: Page, videos: list[str], api: httpx.Client
) -> None:
    _select(gallery, videos[0], videos[1])
    _toolbar(gallery).get_by_role("button", name="Delete").click()
    expect(gallery.get_by_text("2 videos deleted", exact=True)).to_be_visible()
    gallery.reload()
    expect(_cards(gallery)).to_have_count(1)
    due = [api.get(f"/api/v1/outputs/{each}").json()["deletion_due_at"] for each in videos]
    assert [each is not None for each in due] == [True, True, False]
    for each in videos[:2]:
        api.post(f"/api/v1/outputs/{each}/restore")


def test_videos_and_last_frames_are_saved_as_files(gallery: Page, videos: list[str], tmp_path: Path) -> None:
    _card(gallery, videos[2]).click()
    with gallery.expect_download() as saved:
        _viewer(gallery).get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == f"{videos[2]}.mp4"
    with gallery.expect_download() as saved:
        _viewer(gallery).get_by_role("button", name="Last frame as an image").click()
    saved.value.save_as(tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as frame:
        assert frame.size == (96, 64)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_viewer_and_the_comparison_are_accessible(
    theme: str, browser: Browser, service: Service, videos: list[str]
) -> None:
    for search in (f"query={_WORD}", f"video={videos[0]}", f"compare={','.join(videos)}"):
        url = f"{service.url}/#/gallery?{search}"
        with open_page(browser, url, color_scheme=theme, bypass_csp=True) as page:
            page.locator("[role=grid], dl, table").last.wait_for()
            page.wait_for_load_state("networkidle")
            page.add_script_tag(path=_AXE)
            found = page.evaluate("axe.run().then((result) => result.violations)")
            assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == [], search
