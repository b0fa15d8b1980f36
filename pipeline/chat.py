"""The one chat renderer: training, generation and scoring take their token ids from here.

The tokens of a conversation are always `prompt_ids + response_ids`: the prompt rendered with the
generation prompt, then the answer up to and including the token that ends the turn. So BOS, the
generation prompt and the end of turn cannot differ between the places that use them; the
reference code trains on one end token and stops on another, and doubles BOS.

Only the template writes special tokens. Their names inside a message (a user who types
`<|im_end|>`) are tokenised as plain text, in prompts as in answers, so that no text can end its own
turn. An answer is taken letter by letter and is never merged with the prompt's last token, as when
it is generated; a template that trims (Llama 3) does so to earlier turns only.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.ids import digest_file

Messages = Sequence[Mapping[str, str]]

#: What decides the tokens of a rendered conversation.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PROBE = "\u25a0probe\u25a0"
#: Put into the name of a special token inside a message, so that it is not read as one (two noncharacters).
GUARD = "\ufdd0\ufdd1"

#: Classes named in tokenizer_config.json that are tokenizer.json and nothing else.
PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, as AutoTokenizer loads it.

    AutoTokenizer imports torch, three seconds of which a stage that only counts tokens has no need. For a
    Llama whose tokenizer is of a plain class it ends in PreTrainedTokenizerFast, so that is asked at once.
    """
    files = [folder / name for name in ("tokenizer_config.json", "config.json")]
    config, model = (json.loads(file.read_text(encoding="utf-8")) if file.exists() else {} for file in files)
    plain = config.get("tokenizer_class") in PLAIN_CLASSES and "auto_map" not in config
    if plain and model.get("model_type") == "llama":
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(folder)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@dataclass(frozen=True)
class Chat:
    """The renderer of one tokenizer and its chat template."""

    tokenizer: Any
    digest: str

    @classmethod
    def load(cls, folder: Path) -> "Chat":
        """The renderer of a model folder, one for all folders with its files: nobody changes its tokenizer.

        UserError where there is no tokenizer or no chat template.
        """
        if not (folder / "tokenizer.json").exists():
            raise UserError(
                f"{folder}: expected a tokenizer (tokenizer.json), found none; make it: dvc repro"
            )
        present = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
        digest, model = "-".join(digest_file(path)[:16] for path in present), folder / "config.json"
        # Models of one run share a tokenizer, which takes half a second to load.
        key = digest, digest_file(model) if model.exists() else ""
        if (known := LOADED.get(key)) is not None:
            return known
        tokenizer = load_tokenizer(folder)
        if not tokenizer.chat_template:
            raise UserError(
                f"{folder}: expected a chat template, the tokenizer has none; put a chat_template.jinja "
                "beside tokenizer.json, or choose an instruction-tuned base model"
            )
        LOADED[key] = cls(tokenizer, digest)
        return LOADED[key]

    def text(self, messages: Messages, *, add_generation_prompt: bool) -> str:
        """The conversation as the template writes it, with GUARD in special names inside messages."""
        guarded = [{**message, "content": self.guard(message["content"])} for message in messages]
        return self.tokenizer.apply_chat_template(
            guarded, add_generation_prompt=add_generation_prompt, tokenize=False
        )

    def guard(self, content: str) -> str:
        """A message's text, in which the names of special tokens are no longer their names."""
        return self.special_names.sub(lambda match: match[0][0] + GUARD + match[0][1:], content)

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text: nothing is added, the template has written BOS itself."""
        if GUARD not in text:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids: list[int] = []
        for piece in self.special_names.split(text):
            special = self.special_names.fullmatch(piece)
            plain = self.guarded_names.sub(lambda match: match[0].replace(GUARD, ""), piece)
            ids += [self.tokenizer.convert_tokens_to_ids(piece)] if special else self.encode_plain(plain)
        return ids

    @cached_property
    def special_names(self) -> re.Pattern[str]:
        """Finds the names of special tokens in text; one group, for splitting."""
        return either(self.names)

    @cached_property
    def guarded_names(self) -> re.Pattern[str]:
        """Finds what `guard` makes of such names; the guard elsewhere in a text is text."""
        return either([name[0] + GUARD + name[1:] for name in self.names])

    @cached_property
    def names(self) -> list[str]:
        """The names of the special tokens."""
        return [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]

    def prompt_ids(self, messages: Messages) -> list[int]:
        """Ids of all turns before the answer, with the generation prompt."""
        return self.encode(self.text(messages, add_generation_prompt=True))

    def response_ids(self, response: str, *, ended: bool = True) -> list[int]:
        """Ids of an answer and of the token that ends its turn; without the end, where the answer was cut
        and there is anything else."""
        ids = self.encode_plain(response)
        return ids if ids and not ended else [*ids, self.end_of_turn]

    def encode_plain(self, text: str) -> list[int]:
        """Ids of user-made text, in which the names of special tokens are just text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def conversation(self, messages: Messages) -> tuple[list[int], list[bool]]:
        """Ids of a conversation, and for each whether an assistant wrote it (its end of turn included)."""
        ids: list[int] = []
        mask: list[bool] = []
        for opening, response in self.turns(messages):
            before, answer = self.encode(opening), self.response_ids(response)
            ids += before + answer
            mask += [False] * len(before) + [True] * len(answer)
        return ids, mask

    def turns(self, messages: Messages) -> Iterator[tuple[str, str]]:
        """For each answer: what the template writes between the last answer and it, for `encode`; itself."""
        done = 0
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            opening = self.text(messages[:i], add_generation_prompt=True)
            yield opening[done:], message["content"]
            done = len(opening) + len(self.closed_turn(messages[: i + 1], opening))

    def closed_turn(self, messages: Messages, opening: str) -> str:
        """What the template writes for the last answer after `opening`, up to the end of its turn."""
        full = self.text(messages, add_generation_prompt=False)
        if not full.startswith(opening):
            raise UserError(
                "the chat template writes earlier turns differently once an answer follows; expected a "
                "template whose rendering of a prompt is a prefix of the conversation; use another template"
            )
        answer = full[len(opening) :]
        return answer[: answer.rindex(self.end_of_turn_text) + len(self.end_of_turn_text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    @cached_property
    def end_of_turn(self) -> int:
        """The id of the token with which the template ends an assistant turn.

        Found by rendering, not by name: in Llama-3 tokenizers `eos_token` may be another one.
        """
        prompt = [{"role": "user", "content": PROBE}]
        full = self.text([*prompt, {"role": "assistant", "content": PROBE}], add_generation_prompt=False)
        tail = self.encode(full[full.rindex(PROBE) + len(PROBE) :])
        special = set(self.tokenizer.added_tokens_decoder)
        ends = [token for token in tail if token in special]
        if not ends:
            raise UserError(
                "the chat template ends an assistant turn with no special token, so generation could not "
                f"stop; expected a token such as <|im_end|> there, found {self.tokenizer.decode(tail)!r}"
            )
        return ends[0]

    @cached_property
    def end_of_turn_text(self) -> str:
        """The end-of-turn token as text."""
        return self.tokenizer.convert_ids_to_tokens(self.end_of_turn)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that stop generation: the end of turn that training teaches, and the tokenizer's EOS."""
        eos = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([self.end_of_turn, *([] if eos is None else [eos])]))

    @cached_property
    def pad_id(self) -> int:
        """The id that fills batches; always masked, so it may equal EOS."""
        pad = self.tokenizer.pad_token_id
        return self.end_of_turn if pad is None else pad


def either(names: Sequence[str]) -> re.Pattern[str]:
    """Finds any of `names`, the longest first; one group."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if names else "((?!))")


LOADED: dict[tuple[str, str], Chat] = {}
"""Renderers by the digests of what they were made of: the tokenizer's files and the model's config."""
