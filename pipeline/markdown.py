"""The pieces of which cards are made: YAML front matter, headings and tables of Markdown."""

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def dumped(content: Mapping[str, Any]) -> str:
    """YAML in block style, keys in the given order."""
    yaml, text = YAML(typ="safe"), StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 4096
    yaml.dump(dict(content), text)
    return text.getvalue()


def heading(title: str, *names: str) -> Iterator[str]:
    """A section that is a table: its title and the table's head."""
    yield f"## {title}\n"
    yield line(*names)
    yield "|" + "---|" * len(names)


def line(*cells: str | int) -> str:
    """One row of a table."""
    texts = (f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
