"""What a policy is trained towards, and when a run towards it is stopped.

Every objective is identity: a change makes the policies stale. `kind` says which one it is:

`dpo`    a weighted sum of losses over the log ratios to a reference model, by TRL's names
`simpo`  SimPO (arXiv 2405.14734): no reference, mean log-probabilities, a target margin
`orpo`   ORPO (arXiv 2403.07691): no reference, likelihood of the chosen answer plus log odds
`raft`   rejection-sampling fine-tuning (arXiv 2304.06767): the likelihood of the chosen answer alone

Of what TRL's DPOTrainer offers, four options are left out. `ld_alpha` (length-desensitised DPO) weighs the
tokens of the reference by the length of the other answer, so one number per answer would not do in the row
store. `use_weighting` (WPO) corrects for answers that another policy gave; the loop trains on its own.
`sync_ref_model` moves the reference within a run; here it moves between iterations (`train.reference`).
`discopop_tau` stays what its authors found.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.params import Params

#: Losses of TRL's DPOTrainer by its names.
DpoLossName = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]
SMOOTHED = {"exo_pair", "robust", "aot", "aot_unpaired"}
"""The losses that read label_smoothing in TRL 1.16; the others would ignore it without a word."""
DIVERGENT = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
"""The losses that TRL derives for other divergences than the reverse KL."""

#: What the reference model of DPO thinks of a pair's answers: nats, summed over each.
REFERENCE_LOGPS = ("ref_chosen_logps", "ref_rejected_logps")


class LossTerm(Params):
    """One loss of the sum that DPO minimises."""

    name: DpoLossName
    weight: float = Field(gt=0)


class SortedLossTerm(Params):
    """AOT (arXiv 2406.05882): the sorted log ratios of several pairs are compared, not those of each pair.

    TRL sorts what goes through the model at once. That is a matter of memory elsewhere; here the recipe says
    how many pairs it is, and no setting of the machine changes it.
    """

    name: Literal["aot", "aot_unpaired"]
    weight: float = Field(gt=0)
    rows: int = Field(ge=2)
    """Pairs that are sorted together, and that memory must hold at once; a divisor of the global batch."""


class AlphaDivergence(Params):
    """The alpha divergence, between forward KL (towards 0) and reverse KL (towards 1): TRL's coefficient is 1
    less the alpha of arXiv 2309.16240."""

    name: Literal["alpha_divergence"]
    coefficient: float = Field(gt=0, lt=1)


class Dpo(Params):
    """A weighted sum of losses over the log ratios to the reference model."""

    reference: ClassVar[bool] = True

    kind: Literal["dpo"]
    beta: float = Field(gt=0)
    loss: tuple[Annotated[LossTerm | SortedLossTerm, Field(discriminator="name")], ...] = Field(min_length=1)
    """[{name: sigmoid, weight: 1.0}] is plain DPO; adding {name: sft, ...} is RPO."""
    label_smoothing: float = Field(ge=0, lt=0.5)
    """Part of the labels that is assumed to be wrong."""
    divergence: Literal["reverse_kl", "forward_kl", "js_divergence"] | AlphaDivergence
    """From the reference (arXiv 2309.16240); reverse_kl is DPO as it is known."""

    @property
    def sft(self) -> float:
        """The weight of the likelihood of the chosen answer."""
        return sum(term.weight for term in self.loss if term.name == "sft")

    @property
    def sorted_rows(self) -> int | None:
        """Pairs that must go through the model at once; None where it does not matter."""
        return next((term.rows for term in self.loss if isinstance(term, SortedLossTerm)), None)

    @model_validator(mode="after")
    def consistent(self) -> "Dpo":
        """Losses stand once, not sft alone, and what they cannot do is not asked of them."""
        names = [term.name for term in self.loss]
        if len(set(names)) != len(names):
            raise ValueError(f"loss: expected each name once, found {names}")
        if names == ["sft"]:
            raise ValueError("loss: expected another loss beside sft, found it alone; write kind: raft")
        if len({term.rows for term in self.loss if isinstance(term, SortedLossTerm)}) > 1:
            raise ValueError("loss: expected the same rows for aot and aot_unpaired")
        self.check_options(set(names))
        return self

    def check_options(self, names: set[str]) -> None:
        """exo_pair puts log(label_smoothing) on the rejected answer; most losses read no smoothing at all."""
        if "exo_pair" in names and self.label_smoothing == 0:
            raise ValueError(
                "label_smoothing: expected more than 0 with the loss exo_pair (1e-3 is usual), found 0"
            )
        if self.label_smoothing and not names & SMOOTHED:
            raise ValueError(
                f"label_smoothing: expected 0 with {sorted(names)}, which ignore it, found "
                f"{self.label_smoothing}; the losses {sorted(SMOOTHED)} read it"
            )
        named = self.divergence if isinstance(self.divergence, str) else self.divergence.name
        if named != "reverse_kl" and not names <= DIVERGENT:
            raise ValueError(
                f"divergence: expected reverse_kl with {sorted(names - DIVERGENT)}, found {named}"
            )


class Simpo(Params):
    """-log sigmoid(beta * (log p(chosen) - log p(rejected)) - margin), with means over tokens (eq. 6)."""

    reference: ClassVar[bool] = False

    kind: Literal["simpo"]
    beta: float = Field(gt=0)
    """2.0 to 10.0 in the paper, for it scales means, not sums."""
    margin: float = Field(ge=0)
    """By how much the chosen answer should win (the paper's gamma, about half of beta)."""


class Orpo(Params):
    """-log p(chosen) - weight * log sigmoid(log odds ratio), with p the mean over tokens (eq. 1, 6, 7)."""

    reference: ClassVar[bool] = False

    kind: Literal["orpo"]
    weight: float = Field(gt=0)
    """The paper's lambda: 0.1 to 0.25."""


class Raft(Params):
    """-log p(chosen), the mean over all tokens of the answers of an optimiser step."""

    reference: ClassVar[bool] = False

    kind: Literal["raft"]


#: The objectives that compare the two answers of a pair.
Preferring = Dpo | Simpo | Orpo
Objective = Annotated[Dpo | Simpo | Orpo | Raft, Field(discriminator="kind")]


class Health(Params):
    """When a run has gone wrong although its numbers are finite."""

    max_fall: float = Field(gt=0)
    """Most nats by which the mean log-probability of a token of the chosen answers may fall below that of the
    run's first step. A preference loss may push both answers down; 3 nats make each token 20 times as
    unlikely, and nobody wants such a policy."""
