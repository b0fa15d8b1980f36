"""Stage `profile@<mix>`: what a mix is, and whether it may be trained on.

    python -m pipeline.stages.profile <mix> MIX PREFERENCES TOKENIZER OUT

Writes `profile.json` (Table 5 by source and side, the content-blind baselines, the gate), `profile.md` (the
same to read) and `passed.json`. What trains on a mix depends on the last, a constant: another gate or
tokenizer makes no training stale. A mix that fails its gate leaves none of them and exit status 2; its
text is on stderr and in the folder `profiles` of the execution state, since DVC keeps no outs of a failed
stage.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pipeline import edge, profiles, read_sets
from pipeline.errors import UserError
from pipeline.execution import execution
from pipeline.ledger import write_json
from pipeline.pair_lengths import pair_lengths
from pipeline.params import Params, load
from pipeline.profile_text import complaint, text
from pipeline.profiles import Profile

log = logging.getLogger(__name__)

Gate = Annotated[float, Field(gt=0.5, le=1)]


class ProfileParams(Params):
    """By which tokens mixes are measured, and what they may not be guessed by."""

    tokenizer: str = Field(min_length=1)
    """A folder with a tokenizer.json: models/base, or one outside of models/."""
    gates: dict[str, Gate | None]
    """For each mix the highest accuracy of a content-blind baseline; null for no gate."""

    @field_validator("tokenizer")
    @classmethod
    def is_there_before(cls, tokenizer: str) -> str:
        """All other models are trained on what has passed its gate."""
        if Path(tokenizer).parts[:1] == ("models",) and Path(tokenizer) != Path("models/base"):
            raise ValueError(f"expected models/base or a folder outside of models/, found {tokenizer!r}")
        return tokenizer


def judged(found: Profile, state: Path) -> None:
    """UserError where the mix fails its gate; its text is then on stderr and below `state`."""
    if not found.failures():
        return
    page = state / "profiles" / f"{found.mix}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(found), encoding="utf-8")
    sys.stderr.write(f"\n{text(found)}\n")
    raise UserError(complaint(found, str(page)))


def gate_of(mix: str, settings: ProfileParams) -> float | None:
    """The gate of a mix; UserError where the recipe does not say."""
    if mix not in settings.gates:
        raise UserError(
            f"params.yaml: profile.gates: expected a gate for {mix}, found {sorted(settings.gates)}; write "
            f"{mix}: null for a mix without a gate"
        )
    return settings.gates[mix]


def main() -> None:
    """Measure the mix, judge it by its gate, write what it is."""
    mix, folder, preferences, tokenizer, out = edge.arguments(
        "<mix>", "MIX", "PREFERENCES", "TOKENIZER", "OUT"
    )
    gate = gate_of(str(mix), load("profile", ProfileParams))
    pairs = pair_lengths(folder, tokenizer)
    sources = sorted(pairs["source"].cast(str).unique())
    sets = {name: read_sets.read(preferences / name) for name in sources}
    found = profiles.profile(str(mix), pairs, sets, gate)
    judged(found, execution().state)
    profiles.write(out, found)
    (out / "profile.md").write_text(text(found), encoding="utf-8")
    write_json(out / "passed.json", {"passed": True})
    log.info("%s: %d pairs, gate %s", mix, pairs.height, gate)


if __name__ == "__main__":
    edge.run("profile", main)
