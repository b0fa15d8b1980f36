"""The guides work: every `sh` block runs, and prints the lines of the `text` block that follows it.

The blocks of a page are one shell session with `bash -e`, in a copy of the smoke project of its own. A line
of a `text` block stands for a line of the output that holds its words in their order.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.hub_server import hub_server
from tests.smoke_project import ROOT, copy, environment

GUIDES = sorted((ROOT / "docs" / "guide").glob("[!R]*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- block"


@dataclass
class Block:
    """Commands of a page, and lines that they print."""

    line: int
    commands: str
    expected: list[str]


def blocks(page: Path) -> list[Block]:
    """The `sh` blocks of a page, each with the `text` block directly after it."""
    text = page.read_text(encoding="utf-8")
    found, last = [], None
    for fence in FENCE.finditer(text):
        kind, body = fence.groups()
        if kind == "sh":
            last = Block(text.count("\n", 0, fence.start()) + 1, body, [])
            found.append(last)
        elif kind == "text" and last:
            last.expected = body.splitlines()
    return found


def session(page: Path, folder: Path, env: dict[str, str]) -> dict[int, str]:
    """What each block of the page printed, by its line; the page must run to its end."""
    script = "set -euo pipefail\n" + "".join(
        f"echo '{MARK} {block.line}'\n{block.commands}" for block in blocks(page)
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{page.name}: status {done.returncode}\n{done.stdout[-6000:]}"
    printed = re.split(rf"^{MARK} (\d+)\n", done.stdout, flags=re.MULTILINE)
    return {int(line): text for line, text in zip(printed[1::2], printed[2::2], strict=True)}


def holds(printed: str, line: str) -> bool:
    """Whether a printed line holds the words of `line` in their order."""
    pattern = ".*".join(map(re.escape, line.split()))
    return re.search(pattern, printed) is not None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_does_what_it_says(page, smoke, tmp_path):
    folder = copy(smoke, tmp_path / "project")
    with hub_server(tmp_path) as hub:
        offline = {name: value for name, value in environment().items() if name != "HF_HUB_OFFLINE"}
        on_loopback = {name: value for name, value in hub.env.items() if os.environ.get(name) != value}
        printed = session(page, folder, offline | on_loopback)
    for block in blocks(page):
        for line in block.expected:
            assert holds(printed[block.line], line), (
                f"{page.name}, block at line {block.line}: expected {line!r} in\n{printed[block.line]}"
            )


def test_every_guide_is_in_the_index():
    index = (ROOT / "docs" / "guide" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in GUIDES if f"({page.name})" not in index] == []


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_project_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_page_of_recipes_names_every_key():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_0-9]+)`", page))
    missing: set[str] = set()
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        content = YAML(typ="safe").load(recipe.read_text(encoding="utf-8"))
        tables = {name: list(content.pop(name).values()) for name in ("sources", "mixes", "iterations")}
        content["profile"]["gates"] = [*content["profile"]["gates"].values()]  # its keys are names of mixes
        missing |= {*content, *tables} - named
        missing |= keys_of([*content.values(), *tables.values()]) - named
    assert sorted(missing) == []


def keys_of(node: object) -> set[str]:
    """Every key of a tree of mappings and lists; the adapters' own rules are told in their modules."""
    if isinstance(node, dict):
        return {*node} | set().union(*(keys_of(value) for key, value in node.items() if key != "rules"))
    return set().union(*map(keys_of, node)) if isinstance(node, list) else set()
