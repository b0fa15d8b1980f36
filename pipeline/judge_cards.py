"""The card of a trained judge, README.md in its model folder: facts in, Markdown with YAML front matter out.

Like the card of a data set (cards.py) it holds nothing that is not known for certain, and no date or path:
the same run gives the same bytes. How to use the judge is code that runs; a test runs it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.chat import Chat
from pipeline.markdown import dumped, heading, line
from pipeline.models import model_identity
from pipeline.params import Params

BT = '''\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # where this card is
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()


def reward(prompt, answer):
    """The reward of an answer to a conversation, a list of {role, content} that ends with the user."""
    opening = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(opening, add_special_tokens=False)
    ids += tokenizer.encode(answer, add_special_tokens=False)
    ids += [tokenizer.convert_tokens_to_ids("END_OF_TURN")]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits.item()
'''

PAIRWISE = '''\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this card is
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).eval()
letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB"]


def first_letter(prompt, a, b):
    """The probability of the letter A, and not B, for one order of the answers."""
    context = "\\n".join(f"<turn> {message['role']}\\n{message['content']}" for message in prompt)
    question = f"[CONTEXT]\\n{context}\\n[RESPONSE A]\\n{a}\\n[RESPONSE B]\\n{b}"
    chat = [{"role": "user", "content": question}]
    opening = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(opening, add_special_tokens=False)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1, letters].softmax(-1)[0].item()


def first_better(prompt, first, second):
    """The probability that the first answer to a conversation is the better one: the mean of both orders."""
    return (first_letter(prompt, first, second) + 1 - first_letter(prompt, second, first)) / 2
'''


@dataclass(frozen=True)
class Kind:
    """What is said of all judges of one kind."""

    title: str
    what: str
    pipeline: str
    code: str


KINDS = {
    "reward": Kind(
        title="Bradley-Terry reward model",
        what="A sequence classifier with one output, the reward of an answer to a conversation, read at the "
        "token that ends the answer's turn. The chance that one answer is preferred to another is the "
        "sigmoid of the difference of their rewards; rewards of answers to different prompts have no common "
        "scale.",
        pipeline="text-classification",
        code=BT,
    ),
    "pairwise": Kind(
        title="Pairwise preference model",
        what="A causal language model that reads a conversation with two answers and writes A or B, "
        "whichever is better. It was trained on these letters alone: it compares, and does not chat. "
        "Which answer stands first matters to it, so both orders should be asked. In training, names "
        "of sections inside a text had round brackets, so that no answer could forge a section.",
        pipeline="text-generation",
        code=PAIRWISE,
    ),
}


def judge_card(section: str, params: Params, pairs: pl.DataFrame, base: Path) -> str:
    """The card of the judge that `section` of params.yaml describes.

    pairs: those that it was trained on, with their `source`. base: the model that training began from.
    """
    kind = KINDS[section]
    front = {
        "library_name": "transformers",
        "pipeline_tag": kind.pipeline,
        "tags": ["reward-model", "preference", "rlhf", "pairmill"],
    }
    parts = (use(kind, base), data(pairs), training(section, params, base))
    body = "\n\n".join("\n".join(part) for part in parts)
    return f"---\n{dumped(front)}---\n\n# {kind.title}\n\n{body}\n"


def use(kind: Kind, base: Path) -> Iterator[str]:
    """What it is, and the lines that ask it."""
    paper = "[RLHF Workflow](https://arxiv.org/abs/2405.07863)"
    yield f"{kind.what} Made by Pairmill, after the workflow of {paper}.\n"
    code = kind.code.replace("END_OF_TURN", Chat.load(base).end_of_turn_text)
    yield f"## Use\n\n```python\n{code}```"


def data(pairs: pl.DataFrame) -> Iterator[str]:
    """Pairs by source."""
    yield from heading("Training data", "source", "pairs")
    for source, count in pairs.group_by("source").len().sort("source").iter_rows():
        yield line(source, count)
    yield line("all", pairs.height)
    yield "\nThe licences of the sources hold for what was learned from them, too; look them up before use."


def training(section: str, params: Params, base: Path) -> Iterator[str]:
    """What it was trained from, and how."""
    weights = model_identity(base)["weights"]
    yield f"## Training\n\nFrom a base model with the digest `{weights}` (config.json and weights), with:\n"
    yield f"```yaml\n{dumped({section: params.model_dump(mode='json')})}```"


def write_card(folder: Path, card: str) -> None:
    """Put a card into a model folder."""
    path = folder / "README.md"
    path.write_text(card, encoding="utf-8")
    path.chmod(0o644)
