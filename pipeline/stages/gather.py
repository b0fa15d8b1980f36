"""Gather the pairs that an iteration trains on, with their texts.

Pairs name candidates; here their texts are looked up, once, so that training depends on the texts of its
pairs and on no other answer. Whether the pairs of earlier iterations are trained on again is named (paper:
D_1 .. D_t; the reference code: D_t alone). HISTORY holds what the iteration before trained on, or D_off.

    python -m pipeline.stages.gather ITERATION CANDIDATES PAIRS HISTORY OUT
"""

from pipeline import edge, history
from pipeline.ledger import Ledger
from pipeline.pair_texts import told_pairs
from pipeline.params import Params, load


class GatherParams(Params):
    """Which pairs are trained on."""

    pairs: history.Data


def main() -> None:
    """Read the pairs of this iteration and those before it, write what it trains on."""
    names = ("ITERATION", "CANDIDATES", "PAIRS", "HISTORY", "OUT")
    iteration, candidates, pairs, before, out = edge.arguments(*names)
    params = load("gather", GatherParams)
    own = history.of_iteration(told_pairs(candidates, pairs))
    kept = history.kept(history.read(before), params.pairs)
    rows, again = history.united(kept, own)
    ledger = Ledger(f"gather@{iteration}", "pairs")
    ledger.drop(again, id_column="pair_id")
    ledger.close(kept.height + own.height, rows.height, out)
    history.write(out, rows)


if __name__ == "__main__":
    edge.run("gather", main)
