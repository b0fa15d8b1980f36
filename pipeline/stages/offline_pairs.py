"""The offline data D_off of hybrid learning: pairs of a mix that every iteration trains on, too.

It is what stands before the first iteration in the chain of pairs, so it is written where an iteration
leaves its own. With `max_pairs: 0` there is none, as in the paper's experiments.

    python -m pipeline.stages.offline_pairs MIX PASSED OUT
"""

from pydantic import Field

from pipeline import edge, history, tables
from pipeline.ledger import Ledger
from pipeline.params import Params, load
from pipeline.preference_training import capped, demand_gate
from pipeline.schemas import HISTORY, MIX


class OfflinePairsParams(Params):
    """Which mix, and how much of it: the lowest pair ids."""

    mix: str
    max_pairs: int | None = Field(ge=0)
    """0 for none, null for all."""


def main() -> None:
    """Read the train split of the mix, write what the first iteration adds to its own pairs."""
    mix, passed, out = edge.arguments("MIX", "PASSED", "OUT")
    limit = load("offline_pairs", OfflinePairsParams).max_pairs
    given = HISTORY.empty()
    if limit != 0:
        demand_gate(passed)
        given = history.of_mix(capped(tables.read(MIX, mix / "train.parquet"), limit))
    pairs, again = history.united(given)
    ledger = Ledger("offline_pairs", "pairs")
    ledger.drop(again, id_column="pair_id")
    ledger.close(given.height, pairs.height, out)
    history.write(out, pairs, "current")


if __name__ == "__main__":
    edge.run("offline_pairs", main)
