"""The offline data D_off of hybrid learning: pairs of a mix that every iteration trains on, too.

It is what stands before the first iteration in the chain of pairs, so it is written where an iteration
leaves its own. With `max_pairs: 0` there is none, as in the paper's experiments. What asks a validation
prompt is left out.

    python -m pipeline.stages.offline_pairs MIX PASSED VALIDATION OUT
"""

from pydantic import Field

from pipeline import edge, history, tables
from pipeline.held_out import apart
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
    """Read the train split of the mix, write what every iteration adds to its own pairs."""
    mix, passed, validation, out = edge.arguments("MIX", "PASSED", "VALIDATION", "OUT")
    limit = load("offline_pairs", OfflinePairsParams).max_pairs
    ledger, given, pairs = Ledger("offline_pairs", "pairs"), 0, HISTORY.empty()
    if limit != 0:
        demand_gate(passed)
        rows = capped(tables.read(MIX, mix / "train.parquet"), limit)
        left, measured = apart(rows, validation, "offline_pairs")
        given, (pairs, again) = rows.height, history.united(history.of_mix(left))
        for dropped in (measured, again):
            ledger.drop(dropped, id_column="pair_id")
    ledger.close(given, pairs.height, out)
    history.write(out, pairs)


if __name__ == "__main__":
    edge.run("offline_pairs", main)
