"""Make preference pairs from the judged candidates of an iteration.

The rules are classes of pipeline/pair_rules.py, the strategies functions of pipeline/pair_strategies.py. The
score that selects is the one that orders, length rule included (paper, Algorithm 2 and equation 9).

Pairs name candidates, and no text is read for them: stage `gather` looks up the texts of what is trained on.
Only strategy `uncertainty` reads more: the states of the model that judges (pipeline/exploration.py), and the
pairs of all earlier iterations, which are those that the one before trained on, in HISTORY.

    python -m pipeline.stages.pair ITERATION CANDIDATES JUDGMENTS HISTORY MODEL OUT
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline import edge, history, tables
from pipeline.answer_pool import READS
from pipeline.engines.exploring import known
from pipeline.errors import UserError
from pipeline.exploration import Known
from pipeline.ledger import Ledger
from pipeline.pair_rules import PairParams, Uncertainty
from pipeline.pairing import Paired, paired
from pipeline.params import load
from pipeline.schemas import CANDIDATES, PAIRS
from pipeline.scores import read_judgments


@dataclass(frozen=True)
class Made:
    """What became of an iteration's prompts."""

    iteration: str
    paired: Paired


def made(iteration: str, candidates: Path, judgments: Path, earlier: Path, model: Path) -> Made:
    """The pairs of an iteration, and what is none; UserError where there is no pair."""
    params = load("pair", PairParams)
    path = candidates / "candidates.parquet"
    rows = tables.columns(CANDIDATES, path, READS)
    said = read_judgments(judgments / "judgments.parquet")
    seen = explored(path, earlier, model, params)
    found = paired(rows, said, str(iteration), params, seen)
    if found.pairs.is_empty():
        reasons = dict(found.dropped.group_by("reason").len().sort("reason").iter_rows())
        raise UserError(
            f"pair@{iteration}: expected at least one pair, found none of {rows['prompt_id'].n_unique()} "
            f"prompts ({reasons}); lower pair.min_margin, choose another pair.strategy or sample more in "
            "params.yaml"
        )
    return Made(str(iteration), found)


def explored(candidates: Path, earlier: Path, model: Path, params: PairParams) -> Known | None:
    """What `uncertainty` goes by; None for other strategies."""
    if not isinstance(params.strategy, Uncertainty):
        return None
    rows = tables.columns(CANDIDATES, candidates, ("prompt", "response"))
    return known(rows, history.read(earlier), model, params.strategy)


def write(found: Made, out: Path) -> None:
    """Write the pairs and the ledger."""
    tables.write(PAIRS, found.paired.pairs, out / "pairs.parquet")
    ledger = Ledger(f"pair@{found.iteration}", "pairs")
    ledger.drop(found.paired.dropped, id_column="prompt_id")
    ledger.close(found.paired.asked, found.paired.pairs.height, out)


def main() -> None:
    """Read candidates and judgments, write pairs and the ledger."""
    iteration, *inputs, out = edge.arguments(
        "ITERATION", "CANDIDATES", "JUDGMENTS", "HISTORY", "MODEL", "OUT"
    )
    write(made(str(iteration), *inputs), out)


if __name__ == "__main__":
    edge.run("pair", main)
