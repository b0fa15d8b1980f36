"""Pair rules for tests: the paper's, with single keys changed."""

from pipeline.pair_rules import PairParams
from pipeline.params import parse

PAPER = {
    "strategy": {"name": "best_worst"},
    "length": {"rule": "none"},
    "judges": {"rule": "one"},
    "min_margin": 0.0,
    "noise": {},
    "seed": 1,
}


def pair_params(strategy: str = "best_worst", **changes: object) -> PairParams:
    """The paper's rule with keys changed; those that are none of `pair` go to the strategy."""
    own = {key: value for key, value in changes.items() if key not in PAPER}
    changed = {key: value for key, value in changes.items() if key in PAPER}
    return parse("pair", PairParams, PAPER | {"strategy": {"name": strategy} | own} | changed)
