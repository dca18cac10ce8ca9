"""The reference pages match the code."""

import pytest

from docs.reference.generate import PAGES, find_stale_pages, render_page


def test_reference_pages_are_up_to_date() -> None:
    assert list(find_stale_pages()) == [], "run `make reference`"


@pytest.mark.parametrize("name", PAGES)
def test_rendering_a_reference_page_twice_gives_the_same_text(name: str) -> None:
    assert render_page(name) == render_page(name)
