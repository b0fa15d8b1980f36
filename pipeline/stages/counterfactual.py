"""Tell what other pair rules would have given: the same judged candidates, other strategies and length rules.

`counterfactual.parquet` has a row for each alternative of `counterfactual` in params.yaml, the recipe's own
first: how many pairs of how many prompts, their mean margin, by how many characters the chosen answers are
longer, how many of the pairs are the recipe's, and on how many all judges agree. `counterfactual.json` has
the same, and how far the judges rank alike. Nothing trains on it.

    python -m pipeline.stages.counterfactual ITERATION CANDIDATES JUDGMENTS PAIRS OUT
"""

from pipeline import edge, tables
from pipeline.answer_pool import READS
from pipeline.counterfactuals import counterfactuals, rank_agreement
from pipeline.ledger import write_json
from pipeline.pair_rules import CounterfactualParams, PairParams, told
from pipeline.params import load
from pipeline.schemas import CANDIDATES, COUNTERFACTUALS, PAIRS
from pipeline.scores import read_judgments


def main() -> None:
    """Read candidates and judgments, write the table and the account."""
    iteration, candidates, judgments, pairs, out = edge.arguments(
        "ITERATION", "CANDIDATES", "JUDGMENTS", "PAIRS", "OUT"
    )
    params, others = load("pair", PairParams), load("counterfactual", CounterfactualParams)
    rows = tables.columns(CANDIDATES, candidates / "candidates.parquet", READS)
    said = read_judgments(judgments / "judgments.parquet")
    own = tables.read(PAIRS, pairs / "pairs.parquet")
    found = counterfactuals(rows, said, own, params, others)
    tables.write(COUNTERFACTUALS, found, out / "counterfactual.parquet")
    account = {
        "iteration": str(iteration),
        "candidates": rows.height,
        "judges": said["judge"].unique().sort().to_list(),
        "decided_by": told(params.judges),
        "rank_agreement": rank_agreement(rows, said, params),
        "rules": found.drop("number").to_dicts(),
    }
    write_json(out / "counterfactual.json", account)


if __name__ == "__main__":
    edge.run("counterfactual", main)
