"""Attacks with images and videos. Each test is named for what it tries.

Decoding happens in a confined process. The tests therefore measure the memory of the process that asks for it.
"""

import io
import socket
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from tests.hostile import MB, animation, measure, png_chunk, png_with, slow_png
from tests.pictures import png
from tests.service import wait_until
from tests.videos import mp4, ramp
from wan22_bridge.errors import InvalidRequest, NotReady
from wan22_bridge.media.decoders import MAX_DECODERS, MAX_WAITING, Decoders, decoders
from wan22_bridge.media.inputs import check_image, check_video, iterate_frames
from wan22_bridge.media.sandbox import Limits

_GENEROUS = Limits(cpu_seconds=100, wall_seconds=200)


def _check(path: Path, kind: str = "image") -> dict[str, Any]:
    """Checks a file in a process of its own, which reads it into memory before."""
    return measure(
        path,
        f"from wan22_bridge.media.inputs import check_{kind}\ndata = Path(sys.argv[1]).read_bytes()",
        f"check_{kind}(data, param='file')",
    )


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_of_64_megapixels_takes_no_memory_of_the_service(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_encode(Image.new("RGB", (8000, 8000)), kind))
    found = _check(tmp_path / "a")
    assert found["code"] is None
    assert found["growth"] < 20 * MB


def _packed_zeros(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def _long_gif(frames: int) -> bytes:
    """Returns a GIF that repeats one frame."""
    one = _encode(Image.new("P", (16, 16)), "GIF")
    start = one.index(b",")
    return one[:start] + frames * one[start:-1] + b";"


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a header of 60000x60000": (lambda: png_with(width=60_000, height=60_000), "image_too_large"),
    "a header of 2147483647x1": (lambda: png_with(width=2**31 - 1, height=1), "image_too_large"),
    "texts that unpack to a gigabyte": (
        lambda: png_with(64 * png_chunk(b"zTXt", b"a\0\0" + _packed_zeros(16 * MB))),
        "invalid_image",
    ),
    "a GIF of 3000 frames": (lambda: _long_gif(3000), "invalid_image"),
}


@pytest.mark.parametrize("attack", BOMBS)
def test_an_image_that_unpacks_to_much_more_is_rejected(attack: str, tmp_path: Path) -> None:
    make, code = BOMBS[attack]
    (tmp_path / "a").write_bytes(make())
    found = _check(tmp_path / "a")
    assert found["code"] == code
    assert "file" in found["message"]
    assert found["growth"] < 20 * MB


NO_IMAGES: dict[str, Callable[[], bytes]] = {
    "a TIFF": lambda: _encode(Image.new("RGB", (16, 16)), "TIFF"),
    "a PostScript file, which Pillow would give to Ghostscript": lambda: (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    ),
    "an mp4": lambda: mp4(ramp(1)),
    "half a WebP": lambda: _encode(Image.effect_noise((64, 64), 50), "WEBP")[:-500],
    "half a JPEG": lambda: _encode(Image.effect_noise((64, 64), 50), "JPEG")[:-500],
}


@pytest.mark.parametrize("attack", NO_IMAGES)
def test_a_file_of_another_format_or_a_part_of_one_is_rejected(attack: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_image(NO_IMAGES[attack](), param="file")
    assert (caught.value.code, caught.value.param) == ("invalid_image", "file")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_of_500_frames_only_the_first_is_decoded(kind: str) -> None:
    """500 frames of 256x256 take 130 MB, which this limit does not leave."""
    data = animation(kind, 500, side=256)
    [result] = _decode(data, Limits(cpu_seconds=100, wall_seconds=200, memory_bytes=350 * MB))
    assert result == {"width": 256, "height": 256}


def _decode(data: bytes, limits: Limits, task: str = "check_image") -> list[Any]:
    """Decodes data as a file of its own under other limits than the service's."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return list(decoders().decode(file.fileno(), task, limits, param="end_image"))


EXCEEDED = {
    "memory": (Limits(cpu_seconds=100, wall_seconds=200, memory_bytes=300 * MB), "more than 0.292969 GB of memory"),
    "processor time": (Limits(cpu_seconds=1, wall_seconds=200), "more than 1 seconds of processor time"),
    "time": (Limits(cpu_seconds=100, wall_seconds=0), "was not decoded within 0 seconds"),
}


@pytest.mark.parametrize("kind", EXCEEDED)
def test_an_image_that_needs_too_much_is_rejected_by_field_and_limit_and_the_next_one_works(kind: str) -> None:
    limits, message = EXCEEDED[kind]
    data = _encode(Image.new("RGB", (8000, 8000)), "PNG") if kind == "memory" else slow_png()
    with pytest.raises(InvalidRequest, match=message) as caught:
        _decode(data, limits)
    assert (caught.value.code, caught.value.param) == ("decoding_limit_exceeded", "end_image")
    assert caught.value.message.startswith("end_image ")
    assert check_image(png(), param="image") == (96, 64)


def _running_decoders() -> list[psutil.Process]:
    """Returns the decoders of this process."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [process for process in alive if "decoder_program" in " ".join(process.cmdline())]


def _children_of_decoders() -> list[psutil.Process]:
    """Returns the processes that decode a file at this moment."""
    return [child for decoder in _running_decoders() for child in decoder.children()]


def test_a_killed_decoder_costs_only_its_own_file() -> None:
    with ThreadPoolExecutor() as pool:
        checked = pool.submit(_decode, slow_png(), _GENEROUS)
        wait_until(lambda: bool(_children_of_decoders()))
        [child] = _children_of_decoders()
        child.kill()
        with pytest.raises(InvalidRequest, match="the system ended the decoder") as caught:
            checked.result()
    assert (caught.value.code, caught.value.param) == ("decoding_failed", "end_image")
    assert not _children_of_decoders()
    assert check_image(png(), param="image") == (96, 64)


def test_the_death_of_a_decoder_itself_is_not_blamed_on_its_file() -> None:
    with ThreadPoolExecutor() as pool:
        checked = pool.submit(_decode, slow_png(), _GENEROUS)
        wait_until(lambda: bool(_children_of_decoders()))
        [child] = _children_of_decoders()
        [decoder] = [process for process in _running_decoders() if child in process.children()]
        decoder.kill()
        with pytest.raises(NotReady) as caught:
            checked.result()
    assert (caught.value.code, caught.value.can_retry) == ("decoder_unavailable", True)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert check_image(png(), param="image") == (96, 64)


@pytest.mark.parametrize("whole", [False, True], ids=["child", "decoder"])
def test_a_job_reads_on_after_its_decoder_was_killed(whole: bool, tmp_path: Path) -> None:
    """The pipe to the decoder is full after a few frames, so that it is in the middle of the file."""
    path = tmp_path / "video.mp4"
    path.write_bytes(mp4(ramp(40, 256, 256)))
    expected = [frame.tobytes() for frame in iterate_frames(path, 40, 256, 256)]
    frames = iterate_frames(path, 40, 256, 256)
    found = [next(frames).tobytes()]
    wait_until(lambda: bool(_children_of_decoders()))
    for process in _running_decoders() if whole else _children_of_decoders():
        process.kill()
    found += [frame.tobytes() for frame in frames]
    assert found == expected


def test_decoders_that_were_killed_between_two_files_are_replaced() -> None:
    check_image(png(), param="image")
    killed = _running_decoders()
    for process in killed:
        process.kill()
    wait_until(lambda: all(process.status() == psutil.STATUS_ZOMBIE for process in killed))
    assert check_image(png(), param="image") == (96, 64)


def test_a_file_can_reach_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    own = Decoders()
    try:
        with open("/dev/null", "rb") as file, pytest.raises(InvalidRequest):
            list(own.decode(file.fileno(), "check_image", _GENEROUS, param="image"))
        newest = max(_running_decoders(), key=lambda process: process.create_time())
        assert not {"DATABASE_URL", "PATH", "HOME"} & set(newest.environ())
        descriptors = {path.name for path in Path(f"/proc/{newest.pid}/fd").iterdir()}
        assert descriptors == {"0", "1", "2"}
        assert newest.cwd() == "/"
    finally:
        own.close()
    assert not newest.is_running()


def test_with_both_decoders_busy_a_full_line_rejects_further_uploads(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(mp4(ramp(200, 512, 512)))
    running = [iterate_frames(tmp_path / "a.mp4", 200, 512, 512) for _ in range(MAX_DECODERS)]
    for frames in running:
        next(frames)
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(check_image, png(), param="image") for _ in range(MAX_WAITING)]
        try:
            wait_until(lambda: decoders().waiting == MAX_WAITING)
            with pytest.raises(NotReady, match=f"{MAX_WAITING} files wait already") as caught:
                check_image(png(), param="image")
        finally:
            for frames in running:
                frames.close()  # type: ignore[attr-defined]
        assert [future.result() for future in waiting] == [(96, 64)] * MAX_WAITING
    assert (caught.value.code, caught.value.can_retry) == ("decoders_busy", True)
    assert decoders().waiting == 0


def _below_root(file: Path) -> str:
    """Returns a playlist that works in the folder /, where decoders run. FFmpeg allows no absolute paths there."""
    return f"ffconcat version 1.0\nfile {file.relative_to('/')}\n"


def test_the_playlists_of_these_tests_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(mp4(ramp(3)))
    monkeypatch.chdir("/")
    with av.open(io.BytesIO(_below_root(tmp_path / "a.mp4").encode()), "r") as container:
        assert len(list(container.decode(video=0))) == 3


def _playlists(file: Path, port: int) -> dict[str, bytes]:
    """Returns playlists that name an mp4, on the disk and on a server."""
    address = f"http://127.0.0.1:{port}/a.mp4"
    plain = {
        "HLS of a file": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{file}\n#EXT-X-ENDLIST\n",
        "HLS of a server": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        "concat of a file": f"ffconcat version 1.0\nfile {file}\n",
        "concat of a file below the working folder": _below_root(file),
        "concat of a server": f"ffconcat version 1.0\nfile {address}\n",
        "a subfile": f"ffconcat version 1.0\nfile subfile,,start,0,end,0,,:{file}\n",
        "DASH": f'<?xml version="1.0"?><MPD><Period><BaseURL>{address}</BaseURL></Period></MPD>',
    }
    dressed = {f"{name} after the header of an mp4": f"\0\0\0\x18ftypmp42{text}" for name, text in plain.items()}
    return {name: text.encode() for name, text in (plain | dressed).items()}


def test_a_playlist_in_place_of_an_mp4_opens_no_file_and_no_connection(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(mp4())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name, playlist in _playlists(tmp_path / "a.mp4", server.getsockname()[1]).items():
            for data in (playlist, playlist.ljust(5000)):
                (tmp_path / "list").write_bytes(data)
                with pytest.raises(InvalidRequest) as caught:
                    check_video(data, param="video")
                assert caught.value.code == "invalid_video", name
                with pytest.raises(InvalidRequest):
                    list(iterate_frames(tmp_path / "list", 1, 96, 64))
        with pytest.raises(BlockingIOError):
            server.accept()


def _with_counts(count: int) -> bytes:
    """Returns an mp4 whose index claims this number of frames of one byte each, all in one chunk."""
    data = bytearray(mp4(ramp(3)))
    value = count.to_bytes(4, "big")
    sizes, times, chunks = (data.index(name) + 4 for name in (b"stsz", b"stts", b"stsc"))
    data[sizes + 4 : sizes + 12] = b"\0\0\0\1" + value
    data[times + 8 : times + 12] = value
    data[chunks + 12 : chunks + 16] = value
    return bytes(data)


def _with_streams(count: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        streams = [_add_stream(container, "libx264") for _ in range(count)]
        for stream in streams:
            _encode_ramp(container, stream)
    return buffer.getvalue()


def _add_stream(container: OutputContainer, encoder: str) -> VideoStream:
    stream = container.add_stream(encoder, rate=16)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p" if encoder == "mjpeg" else "yuv420p"
    return stream


def _encode_ramp(container: OutputContainer, stream: VideoStream) -> None:
    for pixels in ramp(3):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    container.mux(stream.encode(None))


def _encoded_by(encoder: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        _encode_ramp(container, _add_stream(container, encoder))
    return buffer.getvalue()


def _with_hidden_size() -> bytes:
    """Returns an mp4 whose container states a frame of 1x1, while the encoded frame has 33 megapixels."""
    stated, hidden = ((width << 16 | height).to_bytes(4, "big") for width, height in ((8192, 4096), (1, 1)))
    data = mp4(ramp(1, 8192, 4096))
    assert stated in data
    return data.replace(stated, hidden)


VIDEO_BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an index of two billion frames": (lambda: _with_counts(2**31 - 1), "video_too_long"),
    "an index of 20 million frames": (lambda: _with_counts(20_000_000), "video_too_long"),
    "a header of 1x1 and frames of 8192x4096": (_with_hidden_size, "video_too_large"),
}


@pytest.mark.parametrize("attack", VIDEO_BOMBS)
def test_a_video_that_unpacks_to_much_more_is_rejected(attack: str, tmp_path: Path) -> None:
    make, code = VIDEO_BOMBS[attack]
    (tmp_path / "a").write_bytes(make())
    found = _check(tmp_path / "a", "video")
    assert found["code"] == code, found
    assert found["growth"] < 20 * MB


HOSTILE_VIDEOS: dict[str, tuple[Callable[[], bytes], str]] = {
    "30 streams": (lambda: _with_streams(30), "invalid_video"),
    "a codec that few people test": (lambda: _encoded_by("mpeg2video"), "video_codec_not_supported"),
    "pictures in place of a video": (lambda: _encoded_by("mjpeg"), "video_codec_not_supported"),
    "an image": (png, "invalid_video"),
    "an image after the header of an mp4": (lambda: b"\0\0\0\x18ftypmp42" + png(), "invalid_video"),
}


@pytest.mark.parametrize("attack", HOSTILE_VIDEOS)
def test_a_video_of_another_kind_is_rejected(attack: str) -> None:
    make, code = HOSTILE_VIDEOS[attack]
    with pytest.raises(InvalidRequest) as caught:
        check_video(make(), param="file")
    assert (caught.value.code, caught.value.param) == (code, "file")


def test_sound_and_subtitles_are_not_decoded_and_do_no_harm() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video, sound = _add_stream(container, "libx264"), container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        _encode_ramp(container, video)
    assert check_video(buffer.getvalue(), param="video").num_frames == 3


_PRINT_DECODER = """
import psutil, time
from tests.pictures import png
from wan22_bridge.media.inputs import check_image
check_image(png(), param="image")
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(600)
"""


def test_no_decoder_outlives_a_killed_service() -> None:
    with subprocess.Popen([sys.executable, "-c", _PRINT_DECODER], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        decoder = psutil.Process(int(service.stdout.readline()))
        service.kill()
    wait_until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4"])
def test_every_codec_of_the_list_is_read(encoder: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(_encoded_by(encoder))
    assert check_video((tmp_path / "a.mp4").read_bytes(), param="video").num_frames == 3
    levels = [float(np.asarray(image).mean()) for image in iterate_frames(tmp_path / "a.mp4", 3, 96, 64)]
    assert levels == pytest.approx([20, 125, 230], abs=6)


def test_a_cover_picture_before_the_video_is_skipped() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        cover, video = _add_stream(container, "mjpeg"), _add_stream(container, "libx264")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(ramp(1)[0], format="rgb24")))
        container.mux(cover.encode(None))
        _encode_ramp(container, video)
    assert check_video(buffer.getvalue(), param="video").num_frames == 3
