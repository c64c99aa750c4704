"""The documentation: named tests exist, links lead somewhere, settings are complete."""

import re
from pathlib import Path

import pytest

from demand_assets.settings import PROJECT

PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_each_promise_names_a_test_that_exists() -> None:
    promises = (PROJECT / "docs/faults.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", promises)
    assert len(named) > 60
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"\ndef {test}(" not in (PROJECT / "demand_assets_tests" / file).read_text()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_readme_and_example_file_have_the_same_settings() -> None:
    name = r"\b((?:INFLUXDB_V2|DEMAND|REDATA)_[A-Z0-9_]+)"
    example = re.findall(rf"^#{name}=", (PROJECT / ".env.example").read_text(), re.M)
    table = (PROJECT / "README.md").read_text().partition("## Settings")[2].partition("##")[0]
    assert set(re.findall(name, table)) == set(example)
