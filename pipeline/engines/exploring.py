"""What exploration reads of a judge: the states of an iteration's answers and of the pairs before it.

A judge's state at the last token is all that its score head reads, so for a Bradley-Terry model the reward is
linear in it to the letter. Any other judge of the recipe has such states, too. They come from the row store:
an answer that was a candidate and then a side of a pair is read once.
"""

from pathlib import Path

import numpy as np
import polars as pl

from pipeline.engines.states import answer_states
from pipeline.exploration import Known, covariance, whitening
from pipeline.pair_rules import Uncertainty
from pipeline.planning import is_planning

SIDES = ("chosen", "rejected")


def known(candidates: pl.DataFrame, history: pl.DataFrame, model: Path, rule: Uncertainty) -> Known:
    """The features of candidates (schemas.CANDIDATES), and Sigma of earlier pairs (schemas.HISTORY)."""
    asked = list(candidates.select("prompt", "response").iter_rows())
    for side in SIDES:
        text = pl.col(side).list.last().struct.field("content")
        asked += history.select("prompt", text).iter_rows()
    found = answer_states(model, asked, max_length=rule.max_length, dtype=rule.dtype)
    if is_planning():
        found = np.nan_to_num(found)  # a state that nobody has computed: what follows of it is not known
    features, chosen, rejected = np.split(found, [candidates.height, candidates.height + history.height])
    differences = chosen.astype(np.float64) - rejected
    return Known(features, whitening(covariance(differences, rule.ridge)))
