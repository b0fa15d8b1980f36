"""Comparing policies at equal length: what a gain in reward is, once longer answers are taken into account.

Judges tend to like what is long (`length_bias`), and policies trained on their verdicts grow longer. Two
rules are offered besides none. A penalty per character says beforehand what length is worth (paper, equation
9). A regression finds it out: over the validation prompts the paired difference of rewards is fitted by least
squares as gain + slope * (difference of characters), and `gain` is what is left where both answers are
equally long. It is the linear case of what length-controlled win rates do.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from pipeline.errors import UserError
from pipeline.intervals import Interval, resamples
from pipeline.pair_rules import LengthPenalty, NoLength
from pipeline.params import Params

LEAST = 3
"""Prompts for a regression: through two points runs always a line."""


class LengthRegression(Params):
    """The gain at equal length, by a regression over prompts."""

    rule: Literal["regression"]


LengthControl = Annotated[NoLength | LengthPenalty | LengthRegression, Field(discriminator="rule")]


def gain_at_equal_length(
    gains: ArrayLike, longer: ArrayLike, seed: int, n: int = 2000
) -> tuple[Interval, float]:
    """(the gain where both answers are equally long, with its interval; the reward of a character more).

    One number per prompt: by how much the later answer's reward and characters exceed those of the earlier.
    Prompts are resampled, and the line is fitted anew to each resample. Where all differences of length are
    the same there is no line, and the slope is 0. UserError for fewer than LEAST prompts.
    """
    rewards, characters = np.asarray(gains, np.float64), np.asarray(longer, np.float64)
    if rewards.size < LEAST:
        raise UserError(
            f"select: expected at least {LEAST} judged validation prompts for length: {{rule: regression}}, "
            f"found {rewards.size}; raise prompts.validation or choose another rule in params.yaml"
        )
    whole = np.arange(rewards.size)[None]
    (gain,), (slope,) = line(rewards[whole], characters[whole])
    drawn = [line(rewards[i], characters[i])[0] for i in resamples(rewards.size, seed, n)]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Interval(float(gain), float(low), float(high)), float(slope)


def line(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(intercept, slope) of the line of least squares through each row of `values` over `places`."""
    value, place = values.mean(axis=1), places.mean(axis=1)
    apart = places - place[:, None]
    spread, joint = (apart**2).sum(axis=1), (apart * values).sum(axis=1)
    slope = np.divide(joint, spread, out=np.zeros_like(joint), where=spread > 0)
    return value - slope * place, slope
