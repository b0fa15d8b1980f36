"""The one term of the reward loss that TRL's RewardTrainer lacks: label smoothing."""

from typing import Any


def smoothed(trainer: Any, part: float) -> type:
    """RewardTrainer for labels of which `part` are assumed to be wrong.

    With d = chosen - rejected - margin the trainer's loss is the mean of -log sigmoid(d), and
    -log sigmoid(-d) = d - log sigmoid(d). So (1 - part) * -log sigmoid(d) + part * -log sigmoid(-d) is what
    the trainer has, plus part * d.
    """

    class Smoothed(trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
            loss = loss + part * (chosen - rejected - inputs.get("margin", 0.0)).mean()
            return (loss, outputs) if return_outputs else loss

    return Smoothed
