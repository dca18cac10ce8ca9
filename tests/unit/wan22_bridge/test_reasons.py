"""The reasons of errors have no paths, passwords, signatures and tokens."""

import pytest

from wan22_bridge.reasons import find_reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cannot read /srv/hidden/models/a.safetensors", "cannot read a.safetensors"),
        ("cannot read '/srv/hidden folder/a b.bin': too short", "cannot read 'a b.bin': too short"),
        ('File "/srv/hidden/x.json" is empty.', 'File "x.json" is empty'),
        ("no folder /srv/hidden/", "no folder"),
        ("GET https://me:hidden@host/a failed", "GET https://…@host/a failed"),
        ("for url 'https://cdn.example/a?X-Amz-Signature=hidden&b=c'", "for url 'https://cdn.example/a?…'"),
        ("for url https://cdn.example/a#hidden", "for url https://cdn.example/a?…"),
        ("the token hf_hidden1234 is not valid", "the token hf_… is not valid"),
        ("Authorization: Bearer hidden", "Authorization: Bearer …"),
        ("the key AKIAHIDDEN0000000000 does not exist", "the key AKIA… does not exist"),
        (f"wan22_{'0' * 16}_{'hidden' * 10}", f"wan22_{'0' * 16}_…"),
        ("first line\nhidden", "first line"),
        ("size mismatch for blocks.0.attn1: expected 3/4", "size mismatch for blocks.0.attn1: expected 3/4"),
        ("", "ValueError"),
    ],
)
def test_what_is_secret_is_left_out(text: str, reason: str) -> None:
    found = find_reason(ValueError(text))
    assert found == reason
    assert "hidden" not in found.lower()


def test_the_path_of_a_file_error_is_left_out() -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the text is what is tested
        open("/hidden/file")  # noqa: SIM115
    assert find_reason(caught.value) == "No such file or directory"


def test_a_long_reason_is_cut() -> None:
    assert len(find_reason(ValueError("x" * 1000))) == 200
    assert len(find_reason(ValueError("x" * 1000), limit=300)) == 300
