"""Run an adapter on a few raw values."""

import json
from typing import Any

from pipeline import sources
from pipeline.items import Drop, Item
from pipeline.raw import RawRow


def outcomes(adapter: str, rules: dict[str, Any], *values: Any) -> list[list[Item]]:
    """What each raw value becomes; every value must be answered for, once, in order."""
    module = sources.adapter(adapter)
    rows = [RawRow("f.jsonl", number, value) for number, value in enumerate(values)]
    answered = list(module.items(rows, module.Rules.model_validate_json(json.dumps(rules))))
    assert [row for row, _ in answered] == rows
    return [items for _, items in answered]


def one(adapter: str, rules: dict[str, Any], value: Any) -> Any:
    """The only item of one raw value."""
    [[item]] = outcomes(adapter, rules, value)
    return item


def reasons(items: list[Item]) -> list[str]:
    """Why items were dropped, "kept" for those that were not."""
    return [item.reason if isinstance(item, Drop) else "kept" for item in items]


def user(text: str) -> dict[str, str]:
    """A user turn."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    """An assistant turn."""
    return {"role": "assistant", "content": text}
