"""The documentation points to files and headings that exist."""

import re
from pathlib import Path

import pytest

from docs.reference.generate import anchor
from tests.service import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "wan22_bridge/builtin/weights/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match("https?:", target):
            continue
        path, _, fragment = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if fragment and found.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), target


def test_the_readme_has_at_most_90_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_every_metric_has_a_row_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "deployments").rglob("metrics.py"))
    names = re.findall(r'(?:Counter|Gauge|Histogram)\(\s*"(wan22_\w+)"', source)
    assert names
    assert all(f"| `{name}` |" in reference for name in names)


def test_the_tests_of_the_list_of_attacks_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/security.md").read_text())
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 60
    assert [name for name in named if f"def {name}(" not in source] == []
