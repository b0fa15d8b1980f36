"""Count and score everything: the page, the metrics and two small tables below reports/.

The page is one static file without scripts or outside addresses. The same inputs give the same
bytes: intervals are drawn from seeds, and nothing knows the time.

    python -m pipeline.stages.report STANDARD MIXES PROFILES PROMPTS SFT_MIX PACKED TRAINING ITERATIONS \\
        COUNTERFACTUALS BASELINES JUDGE_EVALUATION LEARNING_CURVE CONTROL SELECT RELEASE CURVES \\
        INDEX METRICS ITERATIONS_CSV LEDGER_CSV
"""

import logging
from dataclasses import fields

from pipeline import edge
from pipeline.ledger import write_json
from pipeline.report.accounts import ledger_rows
from pipeline.report.findings import findings, metrics
from pipeline.report.inputs import Folders, recipe
from pipeline.report.page import render
from pipeline.report.policies import policy_rows

log = logging.getLogger(__name__)

FOLDERS = tuple(field.name for field in fields(Folders))
OUTPUTS = ("INDEX", "METRICS", "ITERATIONS_CSV", "LEDGER_CSV")


def main() -> None:
    """Read every folder, write the four files."""
    paths = edge.arguments(*(name.upper() for name in FOLDERS), *OUTPUTS)
    folders = Folders(**dict(zip(FOLDERS, paths, strict=False)))
    index, figures, iterations, ledger = paths[len(FOLDERS) :]
    found = findings(folders, recipe())
    for path in (index, figures, iterations, ledger):
        path.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(render(found), encoding="utf-8")
    write_json(figures, metrics(found))
    policy_rows(found.policies, found.iterations).write_csv(iterations)
    ledger_rows(found.accounts).write_csv(ledger)
    log.info("report: wrote %s (%d KiB)", index, index.stat().st_size // 1024)


if __name__ == "__main__":
    edge.run("report", main)
