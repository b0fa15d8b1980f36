"""Fine-tune the base model on packed demonstrations: the reference policy pi_0 (paper, section 3.1).

python -m pipeline.stages.sft BLOCKS BASE OUT CURVES
"""

from pipeline import edge, tables
from pipeline.engines.trainers import train_sft
from pipeline.params import load
from pipeline.schemas import BLOCKS
from pipeline.training import TrainingParams
from pipeline.training_runs import training_run


def main() -> None:
    """Read blocks, write the policy t0."""
    blocks, base, out, curves = edge.arguments("BLOCKS", "BASE", "OUT", "CURVES")
    params = load("sft", TrainingParams)
    rows = tables.read(BLOCKS, blocks / "blocks.parquet").drop("block")
    train_sft(base, rows, params, training_run("sft", out, curves, models=[base], rows=rows, params=params))


if __name__ == "__main__":
    edge.run("sft", main)
