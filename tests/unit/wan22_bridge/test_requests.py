"""Requests are resolved into complete parameters, or rejected with an error that says what to change."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from wan22_bridge.catalogue import ImageInput, load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.options import DEFAULT_STRENGTH, StepCache
from wan22_bridge.requests import (
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
"""The catalogue, with fixed sizes and steps for the tiny models: the expected values below follow from them."""
_SERVED = [_CATALOGUE[name] for name in ("tiny-t2v", "tiny-i2v", "tiny-ti2v")]
_REAL = [spec for spec in _CATALOGUE.values() if spec.id.startswith("wan")]
_WIDE = InputImage(key="inputs/a", width=2000, height=1000)
_CLIP = InputVideo(key="inputs/b", width=2000, height=1000, num_frames=30, fps=29.97)


def _resolve(served: Any = _SERVED, **fields: Any) -> GenerationParams:
    return resolve_params(GenerationRequest(**({"prompt": "a cat"} | fields)), served)


def test_open_options_get_the_models_own_defaults() -> None:
    params = _resolve(_REAL, model="t2v-a14b")
    assert (params.model, params.model_type) == ("wan2.2-t2v-a14b", ModelType.T2V)
    assert (params.width, params.height, params.num_frames, params.fps, params.steps) == (1280, 720, 81, 16, 40)
    assert (params.guidance_scale, params.guidance_scale_2, params.flow_shift) == (4.0, 3.0, 12.0)
    assert params.negative_prompt.startswith("色调艳丽")
    assert 0 <= params.seed < 2**31


def test_an_empty_negative_prompt_replaces_the_default() -> None:
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
def test_a_model_is_named_by_id_type_or_auto_in_any_case(name: str, image: bool, expected: str) -> None:
    assert choose_model(_SERVED, name, has_image=image).id == expected


def test_auto_chooses_ti2v_if_no_other_model_is_served() -> None:
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
def test_sizes_are_rounded_down_to_the_models_multiple(model: str, size: str, expected: tuple[int, int]) -> None:
    params = _resolve(model=model, resolution=size)
    assert (params.width, params.height) == expected


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (4, 1), (5, 5), (16, 13), (17, 17), (161, 161)])
def test_frame_counts_are_rounded_down_to_4k_plus_1(frames: int, expected: int) -> None:
    assert _resolve(num_frames=frames).num_frames == expected


@pytest.mark.parametrize(("seconds", "fps", "expected"), [(1, 16, 17), (4, 16, 65), (2.5, 24, 61)])
def test_seconds_are_converted_to_frames(seconds: float, fps: int, expected: int) -> None:
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
def test_without_a_size_the_image_determines_the_shape(
    model: str, image: InputImage, expected: tuple[int, int]
) -> None:
    params = _resolve(model=model, image=image)
    assert (params.width, params.height) == expected


def test_guidance_scale_applies_to_both_experts() -> None:
    assert _resolve(guidance_scale=7.0).guidance_scale_2 == 7.0
    assert _resolve(guidance_scale_2=2.0).guidance_scale == 4.0
    assert _resolve(model="ti2v", guidance_scale=7.0).guidance_scale_2 is None


def test_a_seed_is_kept_if_set_and_drawn_otherwise() -> None:
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
def test_an_impossible_request_is_rejected_by_field(fields: Any, code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(**fields)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_auto_names_the_missing_input_if_no_served_model_fits() -> None:
    with pytest.raises(InvalidRequest, match="without an image") as caught:
        _resolve([_CATALOGUE["tiny-i2v"]])
    assert caught.value.code == "image_required"


def test_the_suggested_maximum_length_is_accepted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(seconds=60, fps=24)
    assert caught.value.suggestions == ["Ask for at most 161 frames: 6.6 seconds at 24 fps."]
    assert _resolve(seconds=6.6, fps=24).num_frames == 157


def test_a_size_that_is_too_large_is_rejected_with_a_size_that_fits() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _resolve(resolution="4000x2000")
    assert caught.value.suggestions == ["Use 2032x1008 or smaller."]
    assert _resolve(resolution="2032x1008").width == 2032


def test_text_options_are_stripped() -> None:
    assert _resolve(negative_prompt=" blurry ").negative_prompt == "blurry"


def test_parameters_survive_a_round_trip_through_json() -> None:
    params = _resolve(model="i2v", image=_WIDE, loras=(LoraUse(name="style", low_noise_strength=0.5),))
    restored = GenerationParams.from_dict(json.loads(json.dumps(params.to_dict())))
    assert restored == params
    assert [type(getattr(restored, item.name)) for item in fields(params)] == [
        type(getattr(params, item.name)) for item in fields(params)
    ]


def test_parameters_of_other_versions_can_be_read() -> None:
    data = _resolve().to_dict()
    for added_later in ("video", "strength", "step_cache", "loras"):
        del data[added_later]
    params = GenerationParams.from_dict(data | {"from_the_future": 1})
    assert (params.video, params.strength, params.step_cache, params.loras) == (None, 1.0, StepCache.NONE, ())


def test_parameters_with_an_open_option_are_rejected() -> None:
    data = _resolve().to_dict()
    del data["steps"], data["seed"]
    with pytest.raises(TypeError, match="needs a value for: steps, seed"):
        GenerationParams.from_dict(data)


def test_a_preset_decides_open_options() -> None:
    params = _resolve(_REAL, model="t2v-a14b", preset="lightning")

    assert (params.steps, params.guidance_scale, params.guidance_scale_2, params.flow_shift) == (4, 1.0, 1.0, 5.0)
    assert [use.name for use in params.loras] == ["lightning-t2v"]
    assert params.negative_prompt.startswith("色调艳丽")


def test_a_requests_own_options_override_its_preset() -> None:
    mine = LoraUse(name="lightning-t2v", high_noise_strength=0.5)

    params = _resolve(_REAL, model="t2v-a14b", preset="lightning", steps=6, loras=(LoraUse(name="style"), mine))

    assert params.steps == 6
    assert params.loras == (LoraUse(name="style"), mine)


@pytest.mark.parametrize("model_id", _CATALOGUE)
def test_every_model_has_a_preset_with_its_repositorys_defaults(model_id: str) -> None:
    spec = _CATALOGUE[model_id]
    image = _WIDE if spec.image is ImageInput.REQUIRED else None

    params = _resolve([spec], model=model_id, preset="repository", image=image)

    assert (params.steps, params.guidance_scale, params.negative_prompt) == (50, 5.0, "")
    assert params.flow_shift == (5.0 if spec.type is ModelType.TI2V else 3.0)


def test_an_unknown_preset_is_rejected_with_the_known_presets() -> None:
    with pytest.raises(InvalidRequest, match="has no preset 'lightning'") as raised:
        _resolve(_REAL, model="ti2v-5b", preset="lightning")
    assert raised.value.suggestions == ["Use one of: repository."]


def test_video_to_video_follows_the_inputs_shape_length_and_frame_rate() -> None:
    params = _resolve(video=_CLIP)

    assert (params.model, params.video, params.image) == ("tiny-t2v", "inputs/b", None)
    assert (params.width, params.height) == (176, 80)
    assert (params.num_frames, params.fps) == (29, 30)
    assert (params.strength, params.steps_to_run) == (DEFAULT_STRENGTH, 6)


def test_video_to_video_is_limited_to_the_models_maximum_length() -> None:
    assert _resolve(video=replace(_CLIP, num_frames=900)).num_frames == 161
    assert _resolve(video=replace(_CLIP, num_frames=1)).num_frames == 1


@pytest.mark.parametrize("fps", [0.0, 0.2, 600.0])
def test_an_unusable_frame_rate_is_replaced_by_the_models_own(fps: float) -> None:
    assert _resolve(video=replace(_CLIP, fps=fps)).fps == 16


def test_requested_options_override_the_input_videos_properties() -> None:
    params = _resolve(video=_CLIP, model="ti2v", resolution="96x64", num_frames=9, fps=12, strength=1.0)

    assert (params.width, params.height, params.num_frames, params.fps) == (96, 64, 9, 12)
    assert (params.model, params.strength, params.steps_to_run) == ("tiny-ti2v", 1.0, 12)


def test_without_an_input_video_every_step_is_run() -> None:
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
def test_a_continuation_keeps_its_inputs_size_unless_it_is_too_large(clip: InputVideo, size: tuple[int, int]) -> None:
    params = _resolve(image=clip)

    assert (params.model, params.image, params.video) == ("tiny-i2v", "inputs/b", None)
    assert (params.width, params.height) == size
    assert (params.num_frames, params.fps) == (17, 30)


def test_auto_chooses_a_model_that_supports_video_to_video() -> None:
    assert _resolve([_CATALOGUE["tiny-i2v"], _CATALOGUE["tiny-ti2v"]], video=_CLIP).model == "tiny-ti2v"
    with pytest.raises(InvalidRequest, match="from another video") as caught:
        _resolve([_CATALOGUE["tiny-i2v"]], video=_CLIP)
    assert (caught.value.code, caught.value.param) == ("video_not_supported", "video")


def test_more_frames_than_the_input_has_are_rejected_with_the_maximum() -> None:
    with pytest.raises(InvalidRequest, match="33 frames, but the video has only 30") as caught:
        _resolve(video=_CLIP, num_frames=33)
    assert caught.value.suggestions == ["Ask for at most 29 frames: 0.9 seconds."]
    assert _resolve(video=_CLIP, num_frames=29).num_frames == 29
    assert _resolve(video=_CLIP, seconds=0.9).num_frames == 25


@pytest.mark.parametrize("steps", range(1, 101))
def test_the_suggested_strength_leaves_a_step_to_run(steps: int) -> None:
    with pytest.raises(InvalidRequest, match="none of the") as caught:
        _resolve(video=_CLIP, steps=steps, strength=0.99 / steps)
    suggested = float(caught.value.suggestions[0].removeprefix("Use a strength of at least ").partition(",")[0])
    assert _resolve(video=_CLIP, steps=steps, strength=suggested).steps_to_run >= 1


def test_change_prompt_changes_nothing_else() -> None:
    params = _resolve(image=_WIDE, seed=5)

    assert change_prompt(params, " a dog ", _SERVED) == replace(params, prompt="a dog")
    for prompt, code in (("", "prompt_empty"), ("x" * 2001, "prompt_too_long")):
        with pytest.raises(InvalidRequest) as caught:
            change_prompt(params, prompt, _SERVED)
        assert caught.value.code == code
    with pytest.raises(InvalidRequest) as caught:
        change_prompt(params, "a dog", _REAL)
    assert caught.value.code == "unknown_model"


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("t2v", {"resolution": "480p"}, (832, 480)),
        ("t2v", {"resolution": "720P"}, (1280, 720)),
        ("t2v", {"resolution": "480p", "aspect_ratio": "9:16"}, (480, 832)),
        ("t2v", {"aspect_ratio": "16:9"}, (1280, 720)),
        ("t2v", {"aspect_ratio": "9:16"}, (720, 1280)),
        ("t2v", {"aspect_ratio": "1:1"}, (960, 960)),
        ("t2v", {"resolution": "720p", "aspect_ratio": "1:1"}, (960, 960)),
        ("t2v", {"resolution": "1080p"}, (1920, 1072)),
        ("ti2v", {"resolution": "720p"}, (1280, 704)),
        ("ti2v", {"resolution": "720p", "aspect_ratio": "9:16"}, (704, 1280)),
        ("ti2v", {"resolution": "480p"}, (832, 480)),
        ("i2v", {"resolution": "480p", "image": replace(_WIDE, width=900, height=1600)}, (480, 832)),
    ],
)
def test_classes_and_aspect_ratios_name_the_models_own_sizes(
    model: str, fields: dict[str, Any], expected: tuple[int, int]
) -> None:
    params = _resolve(_REAL, model=model, **fields)
    assert (params.width, params.height) == expected


@pytest.mark.parametrize("ratio", ["16", "0:1", "17:1", "a:b", ""])
def test_what_is_not_an_aspect_ratio_is_rejected(ratio: str) -> None:
    with pytest.raises(InvalidRequest, match="aspect_ratio"):
        _resolve(aspect_ratio=ratio)


def test_a_fractional_frame_rate_is_kept_and_a_whole_one_is_an_integer() -> None:
    assert _resolve(fps=23.976).fps == 23.976
    assert type(_resolve(fps=24.0).fps) is int
    assert GenerationParams.from_dict(_resolve(fps=24).to_dict()).to_dict()["fps"] == 24
    assert GenerationParams.from_dict(_resolve(fps=23.976).to_dict()).fps == 23.976


@pytest.mark.parametrize("name", ["Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan-ai/wan2.2-t2v-a14b"])
def test_a_model_is_named_by_its_repository(name: str) -> None:
    assert choose_model(_REAL, name).id == "wan2.2-t2v-a14b"


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((4.0, 3.0), (4.0, 3.0)),
        ((4.0, 1.0), (4.0, 1.0)),
        ((1.0, 5.0), (None, 5.0)),
        ((0.5, 5.0), (None, 5.0)),
        ((1.0, 1.0), (None, None)),
        ((1.0, None), (None, None)),
    ],
)
def test_each_expert_is_guided_by_its_own_scale(
    scales: tuple[float, float | None], expected: tuple[float | None, float | None]
) -> None:
    params = replace(_resolve(), guidance_scale=scales[0], guidance_scale_2=scales[1])
    assert tuple(params.guidance_on(expert) for expert in Expert) == expected
    assert params.is_guided == (expected != (None, None))
