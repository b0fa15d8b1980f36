"""Make preference pairs from the judged candidates of an iteration.

The rules are classes of pipeline/pair_rules.py, the strategies functions of pipeline/pair_strategies.py. The
score that selects is the one that orders, length rule included (paper, Algorithm 2 and equation 9).

    python -m pipeline.stages.pair ITERATION CANDIDATES JUDGMENTS OUT
"""

from pipeline import edge, tables
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.pair_rules import PairParams
from pipeline.pairing import paired
from pipeline.params import load
from pipeline.schemas import CANDIDATES, PAIRS
from pipeline.scores import read_judgments


def main() -> None:
    """Read candidates and judgments, write pairs and the ledger."""
    iteration, candidates, judgments, out = edge.arguments("ITERATION", "CANDIDATES", "JUDGMENTS", "OUT")
    params = load("pair", PairParams)
    rows = tables.read(CANDIDATES, candidates / "candidates.parquet")
    said = read_judgments(judgments / "judgments.parquet")
    found = paired(rows, said, str(iteration), params)
    if found.pairs.is_empty():
        reasons = dict(found.dropped.group_by("reason").len().sort("reason").iter_rows())
        raise UserError(
            f"pair@{iteration}: expected at least one pair, found none of {rows['prompt_id'].n_unique()} "
            f"prompts ({reasons}); lower pair.min_margin, choose another pair.strategy or sample more in "
            "params.yaml"
        )
    tables.write(PAIRS, found.pairs, out / "pairs.parquet")
    ledger = Ledger(f"pair@{iteration}", "pairs")
    ledger.drop(found.dropped, id_column="prompt_id")
    ledger.close(found.asked, found.pairs.height, out)


if __name__ == "__main__":
    edge.run("pair", main)
