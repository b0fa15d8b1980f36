"""The losses over pairs of answers, on top of TRL's DPOTrainer: what it lacks, and what it would get wrong.

* The likelihood of the chosen answer (`sft`) is TRL's mean over the tokens of a micro batch, which changes
  with the memory of a machine. Here it is the mean over the answer's own tokens, as RPO has it (arXiv
  2404.19733, eq. 4), and then the mean over pairs.
* SimPO and ORPO are experimental trainers of TRL that take text alone, and make a token list of their own.
  Their losses are a line each, so they are computed from the log-probabilities of our token rows.
* The mean log-probability of a token is recorded for both sides: `curves` shows it and watches over it.
"""

from typing import Any

from pipeline.engines.repeatable import given_tokens
from pipeline.objectives import AlphaDivergence, Dpo, Orpo, Preferring, Simpo


def loss_arguments(objective: Preferring) -> dict[str, Any]:
    """Keyword arguments of DPOConfig; nothing is read of them by objectives without a reference."""
    if not isinstance(objective, Dpo):
        return {}
    terms = [term for term in objective.loss if term.name != "sft"]
    divergence = objective.divergence
    alpha = divergence.coefficient if isinstance(divergence, AlphaDivergence) else None
    return {
        "beta": objective.beta,
        "loss_type": [term.name for term in terms],
        "loss_weights": [term.weight for term in terms],
        "label_smoothing": objective.label_smoothing,
        "f_divergence_type": divergence if isinstance(divergence, str) else divergence.name,
        **({} if alpha is None else {"f_alpha_divergence_coef": alpha}),
    }


def preferring(trainer: Any, objective: Preferring) -> type:
    """DPOTrainer for token rows (`repeatable.given_tokens`) and this objective."""
    kind = recorded(given_tokens(trainer))
    return measured(kind, objective) if isinstance(objective, Dpo) else unmeasured(kind, objective)


def recorded(trainer: Any) -> type:
    """DPOTrainer with a way to add to its log."""

    class Recorded(trainer):
        def record(self, **values: Any) -> None:
            """Enter the means of per-row values over all processes."""
            for name, value in values.items():
                mean = self.accelerator.gather(value.detach().float()).mean().item()
                self._metrics["train" if self.model.training else "eval"][name].append(mean)

    return Recorded


def measured(trainer: Any, objective: Dpo) -> type:
    """The trainer with the losses of `objective` that TRL has, and the likelihood of the chosen answer."""

    class Measured(trainer):
        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            heard: list[Any] = []

            def listening(**given: Any) -> Any:
                heard.append(model(**given))
                return heard[-1]

            loss = super()._compute_loss(listening, inputs, return_outputs)
            chosen, rejected = token_means(heard[0], inputs["completion_mask"])
            self.record(chosen_logp=chosen, rejected_logp=rejected)
            return loss - objective.sft * chosen.mean() if objective.sft else loss

    return Measured


def unmeasured(trainer: Any, objective: Simpo | Orpo) -> type:
    """The trainer with a loss that needs no reference model."""
    scale = objective.beta if isinstance(objective, Simpo) else 1.0

    class Unmeasured(trainer):
        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            mask = inputs["completion_mask"]
            labels = inputs["input_ids"].masked_fill(mask == 0, -100)
            given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            output = model(**given, labels=labels, use_cache=False, fused_lm_head=True)
            chosen, rejected = token_means(output, mask)
            self.record(
                **{
                    "chosen_logp": chosen,
                    "rejected_logp": rejected,
                    "rewards/chosen": scale * chosen,
                    "rewards/rejected": scale * rejected,
                    "rewards/accuracies": chosen > rejected,
                    "rewards/margins": scale * (chosen - rejected),
                }
            )
            return losses(objective, chosen, rejected).mean()

    return Unmeasured


def token_means(output: Any, completion_mask: Any) -> tuple[Any, Any]:
    """The mean log-probability of the tokens of each chosen and each rejected answer."""
    answers = completion_mask[:, 1:]
    means = output.log_probs[:, -answers.shape[1] :].float().sum(dim=1) / answers.sum(dim=1)
    return means.chunk(2)


def losses(objective: Simpo | Orpo, chosen: Any, rejected: Any) -> Any:
    """The loss of each pair from the mean log-probabilities of its answers."""
    from torch.nn.functional import logsigmoid

    if isinstance(objective, Simpo):
        return -logsigmoid(objective.beta * (chosen - rejected) - objective.margin)
    odds = chosen - rejected - (log_of_rest(chosen) - log_of_rest(rejected))
    return -chosen - objective.weight * logsigmoid(odds)


def log_of_rest(log_p: Any) -> Any:
    """log(1 - p); an answer that is all but certain counts as a ten millionth away from it."""
    return (-log_p.clamp(max=-1e-7).expm1()).log()
