"""Random Llamas of some hundred kilobytes, built in code: the model source of tests and of the smoke recipe.

They speak nonsense, but with the real shapes: a byte-level BPE tokenizer, special tokens, a chat template,
a config. Two templates stand for the two families of the recipes, each with the habit that breaks careless
code:

`smollm2`  ChatML; a conversation without a system message is given one by the template.
`llama3`   BOS is written by the template and also added by the tokenizer (a careless caller gets two);
           `eos_token` is `<|end_of_text|>`, yet a turn ends with `<|eot_id|>`, and generation_config.json
           does not say so.

The same template and seed give the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TinyTemplate = Literal["smollm2", "llama3"]

VOCABULARY = 512
"""Size of the trained vocabulary without special tokens: 256 bytes and as many merges."""

CHATML = """\
{%- if messages and messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful tiny assistant<|im_end|>\\n' -}}
{%- endif -%}
{%- for turn in messages -%}
{{- '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

LLAMA3 = """\
{{- '<|begin_of_text|>' -}}
{%- for turn in messages -%}
{{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' -}}
{{- turn['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

# Words for the merges to be learned from: everyday questions and answers, so that a chat costs few tokens,
# and indented code, so that runs of spaces are tokens as they are in real vocabularies.
CORPUS = (
    "What is the capital of France? The capital of France is Paris.",
    "How do I write a function that adds two numbers? Here is a short example in Python.",
    "Explain why the sky is blue. The light of the sun is scattered by the air, and blue is scattered most.",
    "Write a poem about the sea and the wind. The sea is wide, the wind is strong, the night is long.",
    "Can you help me with my homework? Of course. "
    "Please tell me which question you would like to answer first.",
    "Give three tips for staying healthy. Eat well, sleep enough, and walk every day with a friend.",
    "There are many ways to answer that; the best one depends on what you want and how much time you have.",
    "I am sorry, but I cannot help with that request. Is there anything else I should know about it?",
    "Summarise the following text in one sentence, then list the people who are mentioned in it.",
    "The user asks a question and the assistant answers it in a helpful, honest and careful way.",
    "def total(numbers):\n    result = 0\n    for number in numbers:\n        result += number\n"
    "    return result",
)


@dataclass(frozen=True)
class Family:
    """What one template needs around it. `specials` come first in the vocabulary, in this order."""

    template: str
    specials: tuple[str, ...]
    bos: str
    eos: str
    pad: str | None
    adds_bos: bool
    """Whether plain tokenisation puts BOS in front, as Llama 3's does."""
    tied: bool
    """Whether the output layer shares the embedding, as in SmolLM2."""


FAMILIES: dict[str, Family] = {
    "smollm2": Family(
        template=CHATML,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos="<|im_start|>",
        eos="<|im_end|>",
        pad="<|im_end|>",
        adds_bos=False,
        tied=True,
    ),
    "llama3": Family(
        template=LLAMA3,
        specials=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        pad=None,
        adds_bos=True,
        tied=False,
    ),
}


def tiny_random(out: Path, template: TinyTemplate = "smollm2", seed: int = 0, head_dim: int = 8) -> None:
    """Write a random two-layer Llama of width 32 (float32) and its tokenizer to the folder `out`.

    Its four attention heads have `head_dim` numbers each; vLLM's CPU build takes no fewer than 32.
    """
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[template]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained_tokenizer(family),
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.pad,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.template
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    _random_llama(family, tokenizer, seed, head_dim).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # written 0600, which a colleague's `dvc pull` could not read


def _trained_tokenizer(family: Family):
    """A byte-level BPE tokenizer learned from CORPUS: no byte is ever lost, and digits stand alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + len(family.specials),
        special_tokens=list(family.specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if family.adds_bos:
        bos = (family.bos, tokenizer.token_to_id(family.bos))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A {family.bos} $B", special_tokens=[bos]
        )
    return tokenizer


def _random_llama(family: Family, tokenizer, seed: int, head_dim: int):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=1024,
        tie_word_embeddings=family.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
