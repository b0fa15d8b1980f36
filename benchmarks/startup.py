"""Time from the shell to the first row: a data stage of ours against `datasets` in streaming mode.

Each side is a new Python process that reads one file and maps its first row. A pipeline starts such a
process for every stage, so this is what a `dvc repro` of small stages costs. Ours must not load torch.

    python -m benchmarks.startup [--rows N] [--repeats N]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Result, flags, medians, tell

ROWS = 10_000
HEAVY = ("torch", "transformers", "trl", "datasets")

OURS = """
import sys
from pathlib import Path
from pipeline import raw
from pipeline.stages import standardize
from pipeline.sources import adapter
module = adapter("trl_pairs")
rules = module.Rules(prompt="explicit", chosen_score=None, rejected_score=None, scores_must_agree=False)
rows = raw.read(Path(sys.argv[1]).parent, [Path(sys.argv[1]).name], None)
_, items = next(iter(module.items(rows, rules)))
print(items[0].chosen)
print([name for name in sys.argv[2:] if name in sys.modules])
"""
PEER = """
import sys
from datasets import load_dataset
rows = load_dataset("json", data_files=sys.argv[1], split="train", streaming=True)
print(next(iter(rows.map(lambda row: {"chosen": row["chosen"].strip()})))["chosen"])
"""


def first_row(program: str, file: Path) -> list[str]:
    """What a new process prints."""
    words = [sys.executable, "-c", program, str(file), *HEAVY]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def main() -> None:
    """Write a file, compare, time, tell."""
    words = flags(__doc__ or "", rows=ROWS).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        lines = [
            json.dumps({"prompt": f"Ask {i}", "chosen": f"Yes {i}", "rejected": "No"})
            for i in range(words.rows)
        ]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (a, loaded), (b,) = first_row(OURS, file), first_row(PEER, file)
        assert a == b, "the two sides differ"
        assert loaded == "[]", f"our stage has loaded {loaded}"
        mine, theirs = medians(words.repeats, lambda: first_row(OURS, file), lambda: first_row(PEER, file))
        size = file.stat().st_size
    tell(
        Result(
            name="startup",
            ours=mine,
            peer=theirs,
            ratio=theirs / mine,
            unit="s",
            peer_is="datasets, streaming",
            input={"rows": words.rows, "bytes": size},
            equality=f"the first row; ours has loaded none of {', '.join(HEAVY)}",
            runs=words.repeats,
        )
    )


if __name__ == "__main__":
    main()
