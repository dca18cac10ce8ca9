"""The prompt rules add what a prompt lacks, and change nothing that it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.prompting import EnhanceOptions, detect_style, enhance, find_missing, load_guide
from wan22_bridge.requests.prompts import MAX_TEXT_CHARACTERS

GUIDE = load_guide()

PROMPTS = [
    "a cat",
    "A red fox walks through snow at dawn. Close-up, 85 mm lens, watercolor style.",
    "a king in a room",
    "an underwater reef",
    "an astronaut on a distant planet",
    "a motionless statue in a valley,",
    "an anime girl in a kitchen",
    "VACE: a dog!",
    "一只猫",
    "水下的鱼。",
    "a café at night with Zoë",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_enhanced_prompt_begins_with_the_prompt_and_lacks_nothing(prompt: str) -> None:
    found = enhance(prompt)
    assert found.enhanced.startswith(prompt)
    assert all(phrase.partition(": ")[2].lower() in found.enhanced.lower() for phrase in found.applied)
    again = enhance(found.enhanced)
    assert (again.enhanced, again.applied) == (found.enhanced, [])


@given(st.text(min_size=1, max_size=MAX_TEXT_CHARACTERS).filter(lambda text: text.strip() and "\x00" not in text))
def test_any_prompt_stays_within_the_limit_and_is_kept(prompt: str) -> None:
    found = enhance(prompt)
    assert found.enhanced.startswith(prompt.strip())
    assert len(found.enhanced) <= MAX_TEXT_CHARACTERS


def test_prompt_that_says_everything_is_unchanged() -> None:
    prompt = "A red fox walks through snow at dawn. Close-up, 85 mm lens, watercolor style."
    found = enhance(prompt)
    assert (found.enhanced, found.applied, found.notes) == (prompt, [], [])


@pytest.mark.parametrize(
    ("prompt", "absent"),
    [
        ("a motionless statue", "motion:"),
        ("a street at midnight", "light:"),
        ("a candle", "light:"),
        ("drone footage of a city", "camera:"),
        ("a portrait with bokeh", "lens:"),
        ("a pixel-art castle", "lens:"),
        ("an anime girl", "style:"),
        ("an illustration of a bear", "style:"),
        ("a bear in the style of Moebius", "style:"),
        ("夜晚的街道", "light:"),
        ("水墨山水", "style:"),
    ],
)
def test_what_a_prompt_says_is_not_said_again(prompt: str, absent: str) -> None:
    assert not any(phrase.startswith(absent) for phrase in enhance(prompt).applied)


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("an underwater reef", "soft light filtering down from above"),
        ("a chef in a kitchen", "soft, even indoor light"),
        ("a motionless statue", "static camera"),
        ("a mountain valley", "wide shot, slow and steady camera movement"),
        ("a mountain valley", "deep focus"),
        ("a cat", "shallow depth of field"),
        ("一只猫", "浅景深"),
    ],
)
def test_additions_suit_the_scene(prompt: str, phrase: str) -> None:
    assert phrase in enhance(prompt).enhanced


def test_every_addition_is_found_by_its_own_aspect() -> None:
    for aspect in GUIDE.aspects:
        for addition in aspect.additions:
            assert aspect.words.search(addition.en)
            assert aspect.words.search(addition.zh)
    for style in GUIDE.styles:
        assert detect_style(style.en) is style
        assert detect_style(style.zh) is style
        assert detect_style(style.display_name) is style


def test_options_switch_parts_off() -> None:
    nothing = EnhanceOptions(apply_cinematic=False, apply_style=False)
    assert enhance("a cat", nothing).enhanced == "a cat"
    assert [phrase.partition(":")[0] for phrase in enhance("a cat", EnhanceOptions(apply_cinematic=False)).applied] == [
        "style"
    ]
    assert "style" not in enhance("a cat", EnhanceOptions(apply_style=False)).enhanced
    assert "in all frames" in enhance("vace edit of a cat").enhanced
    assert "in all frames" not in enhance("vace edit of a cat", EnhanceOptions(apply_vace=False)).enhanced


def test_a_chosen_style_is_added_unless_the_prompt_has_another() -> None:
    anime = EnhanceOptions(style="Anime")
    assert enhance("a cat", anime).enhanced.endswith("anime style, clean lines and cel shading")
    assert "depth of field" not in enhance("a cat", anime).enhanced
    other = enhance("a watercolor of a cat", anime)
    assert "anime" not in other.enhanced
    assert other.notes == ["The prompt asks for the style watercolor already, so Anime was not added."]
    with pytest.raises(InvalidRequest, match="no style 'nope'") as raised:
        enhance("a cat", EnhanceOptions(style="nope"))
    assert raised.value.param == "options.style"


def test_additions_beyond_the_limit_are_left_out_and_noted() -> None:
    prompt = ("a cat " * 400)[: MAX_TEXT_CHARACTERS - 30].strip()
    found = enhance(prompt)
    assert found.applied == ["motion: natural, continuous motion"]
    assert any(note.startswith("No room for camera") for note in found.notes)
    full = "x" * MAX_TEXT_CHARACTERS
    assert enhance(full).enhanced == full


def test_prompt_in_another_language_is_unchanged() -> None:
    for prompt in ("ein schönes Mädchen läuft", "кошка на крыше", "猫が走る"):
        found = enhance(prompt)
        assert (found.enhanced, found.applied) == (prompt, [])
        assert found.notes == ["The rules know English and Chinese only, so nothing was added."]


def test_advice_names_what_is_missing() -> None:
    assert len(find_missing("a cat")) == 6
    assert find_missing("A red fox walks through snow at dawn. Close-up, 85 mm lens, watercolor style.") == []
