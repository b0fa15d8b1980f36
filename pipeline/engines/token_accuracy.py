"""Token accuracy, a curve of supervised runs: the share of labels that the model itself finds most likely.

TRL has it as a mean over micro batches, which changes with the memory of a machine. Here both numbers are
counted over all that was trained on since the last point.
"""

from typing import Any

SERIES = "token_accuracy"


def counting(trainer: Any) -> type:
    """SFTTrainer with `token_accuracy` in its log."""

    class Counting(trainer):
        counts = True
        """Whether the micro batch is one of the data; another one keeps processes in step."""
        right: Any = 0
        asked: Any = 0

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            def counted(**given: Any) -> Any:
                output = model(**given)
                if self.counts:
                    self.right = self.right + output.is_top1.detach().sum()
                    self.asked = self.asked + output.label_mask.sum()
                return output

            return super().compute_loss(counted, inputs, *args, **kwargs)

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            import torch

            seen = torch.tensor([int(self.right), int(self.asked)], device=self.args.device)
            right, asked = self.accelerator.reduce(seen).tolist()
            self.right = self.asked = 0
            super().log(logs | ({SERIES: right / asked} if asked else {}), *args, **kwargs)

    return Counting
