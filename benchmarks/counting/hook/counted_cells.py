"""How an answer of an engine is written down: one line of JSON that says what computed what."""

import json
from collections.abc import Sequence
from typing import Any


def cell(kind: str, weights: str, asked: Sequence[Any]) -> str:
    """What computed (digest of the weights; none where an engine has no model) and what was asked."""
    return json.dumps([kind, weights, asked])
