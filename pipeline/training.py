"""How a model is trained: the keys of params.yaml that decide the result, and where a run writes.

`TrainingParams`, `Lora` and `RewardLoss` are identity, as are the objectives: a change makes the model
stale. `Run` is execution: where the outputs go, and how the work is cut. A different micro batch gives the
same gradients, apart from rounding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.objectives import Health
from pipeline.params import Params


class Lora(Params):
    """Train matrices of a low rank beside the linear layers of the backbone, instead of the layers."""

    rank: int = Field(ge=1)
    """Of what is added to each weight: alpha / rank * B A."""
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    """Of what an adapter reads."""
    targets: Literal["all-linear"] | tuple[str, ...] = Field(min_length=1)
    """all-linear, or the names of layers, such as [q_proj, v_proj]."""


class TrainingParams(Params):
    """What every training run must say; there are no defaults."""

    learning_rate: float = Field(gt=0, lt=1)
    epochs: float = Field(gt=0)
    """Passes over the rows; 0.5 stops half-way."""
    global_batch: int = Field(gt=0)
    """Rows (blocks or pairs) per optimiser step; the last step of an epoch may have fewer."""
    schedule: Literal["cosine", "linear", "constant"]
    warmup_ratio: float = Field(ge=0, lt=1)
    """Part of all steps during which the learning rate rises from 0."""
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(ge=0)
    """Gradients are scaled down to this norm; 0 leaves them."""
    precision: Literal["float32", "bfloat16"]
    """bfloat16 is autocast over float32 weights: about 1.4 times as fast on a CPU with bf16."""
    seed: int = Field(ge=0, lt=2**31)
    max_length: int = Field(gt=1)
    """Longest row in tokens. The stage drops or cuts longer rows and counts them; a trainer refuses them."""
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"]
    train_layers: Literal["all", "head"] | Annotated[int, Field(ge=1)]
    """"head" leaves the backbone as it is and trains the score head or the output layer alone. A number
    trains as many of the last layers, the last norm, and the head where it is no copy of the input
    embeddings: what lies below is only read, so a step costs a fraction."""
    lora: Lora | None
    """null trains the layers themselves; a score head is trained whole in any case."""

    @model_validator(mode="after")
    def one_way(self) -> "TrainingParams":
        """Adapters lie beside all layers, or layers are trained themselves."""
        if self.lora is not None and self.train_layers != "all":
            raise ValueError(
                f"lora: expected null with train_layers: {self.train_layers}, found adapters; set one of them"
            )
        return self


class RewardLoss(Params):
    """Bradley-Terry: -log sigmoid(chosen - rejected), and what may be added to it.

    With d = chosen - rejected - margin it is the mean of (1 - label_smoothing) * -log sigmoid(d)
    + label_smoothing * -log sigmoid(-d) + center * (chosen + rejected)**2.
    """

    center: float | None = Field(ge=0)
    """Weight of the pull of rewards towards 0; null for none."""
    margin: float | None = Field(gt=0)
    """Reward by which the clearest pair of a source should win (`preference_training.margins`); null for 0
    everywhere."""
    label_smoothing: float = Field(ge=0, lt=0.5)
    """Part of the labels that is assumed to be wrong."""


@dataclass(frozen=True)
class Kept:
    """Which models a run keeps besides its end, and where."""

    folder: Path
    """Replaced as a whole: a model folder per part, named like 0.5, and index.json."""
    parts: tuple[float, ...]
    """Of all steps, above 0 and below 1."""


@dataclass(frozen=True)
class Run:
    """Where a training run writes and how it is cut; none of it names the result."""

    out: Path
    """The model folder, replaced as a whole."""
    curves: Path
    """Folder for <series>.tsv files, columns `step` and the series."""
    checkpoints: Path
    """Folder for what a killed run needs to go on; outside DVC outs, one per identity of the result
    (base or policy and reference model, rows, params), removed when the run has ended well."""
    micro_batch: int
    """Rows per forward pass; the largest divisor of the global batch up to this is used."""
    title: str
    """The params section, such as `reward`: named in progress lines and errors."""
    save_every_seconds: int
    """Time between checkpoints; 0 saves at every logged step."""
    kept: Kept | None = None
    """Models to keep on the way; only policies have some."""
    processes: int = 1
    """Processes on this machine that train together."""
    accelerate: str | None = None
    """How accelerate spreads several processes: fsdp, zero3, the path of a file; none is data parallel."""
    health: Health | None = None
    """When to stop a run whose numbers are finite; it changes no run that ends."""

    def __post_init__(self) -> None:
        if self.micro_batch < 1:
            raise ValueError(f"micro_batch: expected at least 1, found {self.micro_batch}")
        if self.save_every_seconds < 0:
            raise ValueError(f"save_every_seconds: expected at least 0, found {self.save_every_seconds}")
