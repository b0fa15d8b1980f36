"""What `standardize` says of the raw rows it read: profiles set the paper's figures beside ours by it."""

import gzip
import json

from pipeline import read_sets
from pipeline.source_params import RawFile, Source
from pipeline.sources import hh_rlhf
from pipeline.stages.standardize import standardize


def source(origin: str) -> Source:
    return Source(
        adapter="hh_rlhf",
        kind="preferences",
        origin=origin,
        files=(RawFile(path="helpful-base/train.jsonl.gz", sha256=None),),
        licence="MIT",
        redistributable=True,
        rules={},
        max_bad_fraction=0.5,
    )


def test_every_raw_row_counts_even_one_that_is_dropped(tmp_path):
    said = "\n\nHuman: Name a colour.\n\nAssistant: "
    raw = [{"chosen": said + "Blue.", "rejected": said + "No."}, {"chosen": said + "Red.", "rejected": "?"}]
    path = tmp_path / "raw" / "helpful-base" / "train.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in raw).encode()))
    for origin, name in (
        ("path:data/hh", None),
        (f"{hh_rlhf.SETS[0].address}@{'0' * 40}", hh_rlhf.SETS[0].name),
    ):
        counts = standardize("hh", source(origin), tmp_path / "raw", tmp_path / "out")
        found = read_sets.read(tmp_path / "out")
        assert (found.rows, found.name, found.whole) == (2, name, False)
        assert counts["kept"] == 1
