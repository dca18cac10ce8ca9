"""Requests become complete parameters, or are refused with what to change."""

from dataclasses import replace
from typing import Any

import pytest

from wan22_bridge.catalogue import ImageInput, load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.requests import (
    DEFAULT_STRENGTH,
    GenerationRequest,
    InputImage,
    InputVideo,
    change_prompt,
    choose_model,
    resolve_params,
)
from wan22_bridge.types import GenerationParams, LoraUse, ModelType

_CATALOGUE = {
    name: replace(spec, size=(128, 128), steps=12) if name.startswith("tiny") else spec
    for name, spec in load_catalogue().items()
}
"""What follows from a default is computed here from one that stays."""
_SERVED = [_CATALOGUE[name] for name in ("tiny-t2v", "tiny-i2v", "tiny-ti2v")]
_REAL = [spec for spec in _CATALOGUE.values() if spec.id.startswith("wan")]
_WIDE = InputImage(key="inputs/a", width=2000, height=1000)
_CLIP = InputVideo(key="inputs/b", width=2000, height=1000, num_frames=30, fps=29.97)


def _resolve(served: Any = _SERVED, **fields: Any) -> GenerationParams:
    return resolve_params(GenerationRequest(**({"prompt": "a cat"} | fields)), served)


def test_what_is_left_out_is_the_models_own_default() -> None:
    params = _resolve(_REAL, model="t2v-a14b")
    assert (params.model, params.model_type) == ("wan2.2-t2v-a14b", ModelType.T2V)
    assert (params.width, params.height, params.num_frames, params.fps, params.steps) == (1280, 720, 81, 16, 40)
    assert (params.guidance_scale, params.guidance_scale_2, params.flow_shift) == (4.0, 3.0, 12.0)
    assert params.negative_prompt.startswith("色调艳丽")
    assert 0 <= params.seed < 2**31


def test_an_own_negative_prompt_replaces_the_default_even_when_empty() -> None:
    assert _resolve(_REAL, negative_prompt="").negative_prompt == ""


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("auto", False, "tiny-t2v"),
        ("auto", True, "tiny-i2v"),
        ("T2V-A14B", False, "tiny-t2v"),
        ("ti2v-5b", False, "tiny-ti2v"),
        ("i2v", True, "tiny-i2v"),
        ("TINY-TI2V", False, "tiny-ti2v"),
    ],
)
def test_a_model_is_known_by_id_type_or_auto_in_any_case(name: str, image: bool, expected: str) -> None:
    assert choose_model(_SERVED, name, has_image=image).id == expected


def test_auto_falls_to_the_model_that_takes_both_where_it_is_the_only_one() -> None:
    only = [_CATALOGUE["tiny-ti2v"]]
    assert choose_model(only, "auto", has_image=True).id == "tiny-ti2v"
    assert choose_model(only, "auto", has_image=False).id == "tiny-ti2v"


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("t2v", "854x480", (848, 480)),
        ("t2v", "1920x1080", (1920, 1072)),
        ("ti2v", "1280x720", (1280, 704)),
        ("t2v", " 832 X 480 ", (832, 480)),
    ],
)
def test_sizes_are_snapped_down_to_the_models_multiple(model: str, size: str, expected: tuple[int, int]) -> None:
    params = _resolve(model=model, resolution=size)
    assert (params.width, params.height) == expected


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (4, 1), (5, 5), (16, 13), (17, 17), (161, 161)])
def test_frames_are_snapped_down_to_4k_plus_1(frames: int, expected: int) -> None:
    assert _resolve(num_frames=frames).num_frames == expected


@pytest.mark.parametrize(("seconds", "fps", "expected"), [(1, 16, 17), (4, 16, 65), (2.5, 24, 61)])
def test_seconds_become_frames(seconds: float, fps: int, expected: int) -> None:
    assert _resolve(seconds=seconds, fps=fps).num_frames == expected


@pytest.mark.parametrize(
    ("model", "image", "expected"),
    [
        ("i2v", _WIDE, (176, 80)),
        ("i2v", replace(_WIDE, width=1000, height=1000), (128, 128)),
        ("ti2v", _WIDE, (160, 64)),
        ("i2v", replace(_WIDE, width=1, height=16000), (32, 512)),
    ],
)
def test_without_a_size_the_image_gives_its_shape(model: str, image: InputImage, expected: tuple[int, int]) -> None:
    params = _resolve(model=model, image=image)
    assert (params.width, params.height) == expected


def test_one_guidance_scale_stands_for_both_experts() -> None:
    assert _resolve(guidance_scale=7.0).guidance_scale_2 == 7.0
    assert _resolve(guidance_scale_2=2.0).guidance_scale == 4.0
    assert _resolve(model="ti2v", guidance_scale=7.0).guidance_scale_2 is None


def test_a_drawn_seed_is_kept_and_a_chosen_one_too() -> None:
    assert _resolve(seed=2**53 - 1).seed == 2**53 - 1
    assert _resolve(seed=-1).seed >= 0
    assert len({_resolve().seed for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": "  "}, "prompt_empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt_too_long", "prompt"),
        ({"prompt": "a\x00b"}, "invalid_prompt", "prompt"),
        ({"negative_prompt": "x" * 2001}, "prompt_too_long", "negative_prompt"),
        ({"model": "sora-2"}, "unknown_model", "model_type"),
        ({"prompt": "a\ud800b"}, "invalid_prompt", "prompt"),
        ({"resolution": "130560x16"}, "resolution_too_large", "resolution"),
        ({"resolution": "abc"}, "invalid_resolution", "resolution"),
        ({"resolution": "0x0"}, "invalid_resolution", "resolution"),
        ({"resolution": "64x00"}, "invalid_resolution", "resolution"),
        ({"resolution": "-64x64"}, "invalid_resolution", "resolution"),
        ({"resolution": "15x64"}, "resolution_too_small", "resolution"),
        ({"resolution": "100000x100000"}, "resolution_too_large", "resolution"),
        ({"num_frames": 162}, "too_many_frames", "num_frames"),
        ({"num_frames": 0}, "invalid_num_frames", "num_frames"),
        ({"seconds": 60}, "too_many_frames", "seconds"),
        ({"model": "i2v"}, "image_required", "image"),
        ({"model": "t2v", "image": _WIDE}, "image_not_supported", "image"),
        ({"model": "ti2v", "image": _WIDE, "end_image": _WIDE}, "end_image_not_supported", "end_image"),
        ({"model": "ti2v", "guidance_scale_2": 3.0}, "guidance_scale_2_not_supported", "guidance_scale_2"),
        ({"model": "i2v", "video": _CLIP}, "video_not_supported", "video"),
        ({"video": _CLIP, "image": _WIDE}, "video_with_image", "image"),
        ({"video": _CLIP, "end_image": _WIDE}, "video_with_image", "end_image"),
        ({"strength": 0.5}, "video_required", "strength"),
        ({"image": _CLIP, "strength": 0.5}, "video_required", "strength"),
        ({"video": _CLIP, "strength": 0.08}, "strength_too_low", "strength"),
        ({"video": _CLIP, "num_frames": 33}, "video_too_short", "num_frames"),
        ({"video": _CLIP, "seconds": 2}, "video_too_short", "seconds"),
        ({"video": _CLIP, "num_frames": 200}, "too_many_frames", "num_frames"),
        ({"model": "t2v", "image": _CLIP}, "image_not_supported", "image"),
    ],
)
def test_what_can_not_work_is_refused_by_the_field_at_fault(fields: Any, code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(**fields)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_auto_says_what_is_missing_where_no_served_model_fits() -> None:
    with pytest.raises(InvalidRequest, match="without an image") as caught:
        _resolve([_CATALOGUE["tiny-i2v"]])
    assert caught.value.code == "image_required"


def test_the_longest_video_that_is_named_is_taken() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(seconds=60, fps=24)
    assert caught.value.suggestions == ["Ask for at most 161 frames: 6.6 seconds at 24 fps."]
    assert _resolve(seconds=6.6, fps=24).num_frames == 157


def test_a_size_that_is_too_large_is_answered_with_one_that_fits() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(resolution="4000x2000")
    assert caught.value.suggestions == ["Use 2032x1008 or smaller."]
    assert _resolve(resolution="2032x1008").width == 2032


def test_parameters_survive_the_way_through_json() -> None:
    params = _resolve(model="i2v", image=_WIDE)
    assert GenerationParams.from_dict(params.to_dict()) == params


def test_a_preset_fills_what_is_left_open() -> None:
    params = _resolve(_REAL, model="t2v-a14b", preset="lightning")

    assert (params.steps, params.guidance_scale, params.guidance_scale_2, params.flow_shift) == (4, 1.0, 1.0, 5.0)
    assert [use.name for use in params.loras] == ["lightning-t2v"]
    assert params.negative_prompt.startswith("色调艳丽")


def test_a_request_goes_before_its_preset() -> None:
    mine = LoraUse(name="lightning-t2v", high_noise_strength=0.5)

    params = _resolve(_REAL, model="t2v-a14b", preset="lightning", steps=6, loras=(LoraUse(name="style"), mine))

    assert params.steps == 6
    assert params.loras == (LoraUse(name="style"), mine)


@pytest.mark.parametrize("model_id", _CATALOGUE)
def test_every_model_has_the_repositorys_own_defaults_too(model_id: str) -> None:
    spec = _CATALOGUE[model_id]
    image = _WIDE if spec.image is ImageInput.REQUIRED else None

    params = _resolve([spec], model=model_id, preset="repository", image=image)

    assert (params.steps, params.guidance_scale, params.negative_prompt) == (50, 5.0, "")
    assert params.flow_shift == (5.0 if spec.type is ModelType.TI2V else 3.0)


def test_an_unknown_preset_is_told_with_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match="has no preset 'lightning'") as raised:
        _resolve(_REAL, model="ti2v-5b", preset="lightning")
    assert raised.value.suggestions == ["It has: repository."]


def test_a_video_gives_its_shape_its_length_and_its_rate() -> None:
    params = _resolve(video=_CLIP)

    assert (params.model, params.video, params.image) == ("tiny-t2v", "inputs/b", None)
    assert (params.width, params.height) == (176, 80)
    assert (params.num_frames, params.fps) == (29, 30)
    assert (params.strength, params.steps_to_run) == (DEFAULT_STRENGTH, 6)


def test_a_long_video_is_taken_as_far_as_the_model_goes() -> None:
    assert _resolve(video=replace(_CLIP, num_frames=900)).num_frames == 161
    assert _resolve(video=replace(_CLIP, num_frames=1)).num_frames == 1


@pytest.mark.parametrize("fps", [0.0, 0.2, 600.0])
def test_a_rate_that_is_none_gives_way_to_the_model_s(fps: float) -> None:
    assert _resolve(video=replace(_CLIP, fps=fps)).fps == 16


def test_what_is_asked_for_goes_before_what_the_video_has() -> None:
    params = _resolve(video=_CLIP, model="ti2v", resolution="96x64", num_frames=9, fps=12, strength=1.0)

    assert (params.width, params.height, params.num_frames, params.fps) == (96, 64, 9, 12)
    assert (params.model, params.strength, params.steps_to_run) == ("tiny-ti2v", 1.0, 12)


def test_without_a_video_every_step_is_run() -> None:
    params = _resolve(image=_CLIP)
    assert (params.strength, params.steps_to_run) == (1.0, params.steps)


@pytest.mark.parametrize(
    ("clip", "size"),
    [
        (replace(_CLIP, width=100, height=70), (96, 64)),
        (replace(_CLIP, width=64, height=256), (64, 256)),
        (_CLIP, (176, 80)),
        (replace(_CLIP, width=8, height=8), (128, 128)),
    ],
)
def test_a_continuation_can_be_joined_to_its_video_where_that_is_not_too_large(
    clip: InputVideo, size: tuple[int, int]
) -> None:
    params = _resolve(image=clip)

    assert (params.model, params.image, params.video) == ("tiny-i2v", "inputs/b", None)
    assert (params.width, params.height) == size
    assert (params.num_frames, params.fps) == (17, 30)


def test_auto_makes_a_video_anew_with_whatever_can() -> None:
    assert _resolve([_CATALOGUE["tiny-i2v"], _CATALOGUE["tiny-ti2v"]], video=_CLIP).model == "tiny-ti2v"
    with pytest.raises(InvalidRequest, match="anew from a video") as caught:
        _resolve([_CATALOGUE["tiny-i2v"]], video=_CLIP)
    assert (caught.value.code, caught.value.param) == ("video_not_supported", "video")


def test_more_frames_than_the_video_has_are_answered_with_what_would_do() -> None:
    with pytest.raises(InvalidRequest, match="33 frames, and the video has 30") as caught:
        _resolve(video=_CLIP, num_frames=33)
    assert caught.value.suggestions == ["Ask for at most 29 frames: 0.9 seconds."]
    assert _resolve(video=_CLIP, num_frames=29).num_frames == 29
    assert _resolve(video=_CLIP, seconds=0.9).num_frames == 25


@pytest.mark.parametrize("steps", range(1, 101))
def test_a_strength_that_is_suggested_leaves_a_step_to_run(steps: int) -> None:
    with pytest.raises(InvalidRequest, match="none of the") as caught:
        _resolve(video=_CLIP, steps=steps, strength=0.99 / steps)
    suggested = float(caught.value.suggestions[0].removeprefix("Use a strength of at least ").partition(",")[0])
    assert _resolve(video=_CLIP, steps=steps, strength=suggested).steps_to_run >= 1


def test_another_prompt_changes_nothing_else() -> None:
    params = _resolve(image=_WIDE, seed=5)

    assert change_prompt(params, " a dog ", _SERVED) == replace(params, prompt="a dog")
    for prompt, code in (("", "prompt_empty"), ("x" * 2001, "prompt_too_long")):
        with pytest.raises(InvalidRequest) as caught:
            change_prompt(params, prompt, _SERVED)
        assert caught.value.code == code
    with pytest.raises(InvalidRequest) as caught:
        change_prompt(params, "a dog", _REAL)
    assert caught.value.code == "unknown_model"
