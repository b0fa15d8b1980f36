"""How two answers to a prompt become chosen and rejected: the params of `pair` and of `counterfactual`.

Each strategy, each length rule and each way to join judges is a class of its own, told by its first key.
A key of another one is an error, so no recipe can hold a value that does nothing.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params import Params


class BestWorst(Params):
    """The answer of the highest and that of the lowest score (paper, Algorithm 2)."""

    name: Literal["best_worst"]


class BestRandom(Params):
    """The answer of the highest score, and any other with the same chance."""

    name: Literal["best_random"]


class BestSecond(Params):
    """The answers of the highest and of the second highest score."""

    name: Literal["best_second"]


class Random(Params):
    """Any two answers with the same chance, ordered by their scores."""

    name: Literal["random"]


class MarginBand(Params):
    """Of the pairs whose margin lies in [low, high], the one with the largest margin."""

    name: Literal["margin_band"]
    low: float = Field(ge=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def check_band(self) -> Self:
        """A band has a width."""
        if self.low >= self.high:
            raise ValueError(f"expected low below high, found {self.low} and {self.high}")
        return self


class TopKPairs(Params):
    """The k pairs with the largest margins, all where a prompt has fewer; an answer may be in several."""

    name: Literal["top_k_pairs"]
    k: int = Field(ge=1)


class LengthMatched(Params):
    """Of the pairs whose longer answer has at most `max_ratio` times the characters of the shorter one, that
    with the largest margin."""

    name: Literal["length_matched"]
    max_ratio: float = Field(ge=1)


class Uncertainty(Params):
    """Of the answers within a budget of KL, the two of whose difference earlier pairs tell least.

    The enhancer of the paper's Algorithm 1 in its linear case: pipeline/exploration.py.
    """

    name: Literal["uncertainty"]
    ridge: float = Field(gt=0)
    """What is known of each direction of the judge's state before any pair, in squared units of it."""
    eta: float = Field(gt=0)
    """Reward that a nat of KL is worth: beta of the objective, where rewards are on the scale of its own."""
    budget: float = Field(gt=0)
    """Nats that an answer may be away from the main agent."""
    max_length: int = Field(ge=32)
    """Tokens of a prompt and its answer that the judge reads; longer ones are cut from the left."""
    dtype: Literal["float32", "bfloat16"]
    """Of the weights."""


Plain = BestWorst | BestRandom | BestSecond | Random | MarginBand | TopKPairs | LengthMatched
"""What can be told from scores and lengths alone."""

Strategy = Annotated[Plain | Uncertainty, Field(discriminator="name")]


class NoLength(Params):
    """Scores as they are."""

    rule: Literal["none"]


class LengthPenalty(Params):
    """r - per_character * |characters| (paper, equation 9; 0.001 for its concise model)."""

    rule: Literal["penalty"]
    per_character: float = Field(gt=0)


class LengthResidual(Params):
    """What length does not tell of a score: the residual of least squares on characters, within a prompt.

    It takes three answers, for through two points runs always a line.
    """

    rule: Literal["residual"]


LengthRule = Annotated[NoLength | LengthPenalty | LengthResidual, Field(discriminator="rule")]


class OneJudge(Params):
    """The only judge there is."""

    rule: Literal["one"]


class NamedJudge(Params):
    """One of several judges; what the others say is in the counterfactual table."""

    rule: Literal["named"]
    judge: str


class MeanOfJudges(Params):
    """The mean over the judges of their scores, each standardised over a prompt's distinct answers."""

    rule: Literal["mean"]


class AgreementOfJudges(Params):
    """The same mean, and each judge must score the chosen answer above the rejected one."""

    rule: Literal["agreement"]


JudgesRule = Annotated[OneJudge | NamedJudge | MeanOfJudges | AgreementOfJudges, Field(discriminator="rule")]


class PairParams(Params):
    """How a prompt's answers become pairs."""

    strategy: Strategy
    length: LengthRule
    """Goes into the score that selects and orders."""
    judges: JudgesRule
    """Whose scores they are."""
    min_margin: float = Field(ge=0)
    """On the scale of the score: the judge's own, or standard deviations where several are joined."""
    noise: dict[str, Annotated[float, Field(ge=0)]]
    """By judge, how far a score moves when the same text is scored again; {} leaves it out."""
    seed: int


class CounterfactualParams(Params):
    """What `pair` is compared with: other strategies, and its own strategy with other length rules."""

    strategies: tuple[Annotated[Plain, Field(discriminator="name")], ...]
    """Not `uncertainty`, which takes a model: it is compared where it is the recipe's own."""
    lengths: tuple[LengthRule, ...]


def told(rule: Params) -> str:
    """A rule in words, such as `margin_band, low 0.5, high 2.0`."""
    first, *others = rule.model_dump().items()
    return ", ".join([str(first[1]), *(f"{key} {value}" for key, value in others)])


def pairs_per_prompt(strategy: Params) -> int:
    """The most pairs that a strategy makes of one prompt."""
    return strategy.k if isinstance(strategy, TopKPairs) else 1
