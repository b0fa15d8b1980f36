"""Templates of the prompted judge: text files that say how to ask, and the strict reading of its answers.

A template is the message that a judge gets. Each placeholder stands in it once: `{conversation}`, then
`{answer_a}`, `{answer_b}` and `{verdict}` to compare two answers, or `{answer}` and `{score:1-10}` to rate
one. The last ends the closing line, such as `Verdict: {verdict}`, with which an answer must end. Other braces
are text. A file may open with a line [SYSTEM] and a system message, which a line [USER] ends.

Texts are filled in as they are, all at once: a placeholder inside one stays as it is. Nor can a text forge a
section: like the markers of the A/B question, a line of the template in square brackets gets round ones where
a text holds it.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline import ab
from pipeline.chat import Messages
from pipeline.errors import UserError

TemplateKind = Literal["pair", "single"]

PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::[^{}\s]*)?\}")
CLOSING = re.compile(r"^(.*)\{(verdict|score:(\d{1,3})-(\d{1,3}))\}[ \t]*$", re.MULTILINE)
SECTION = re.compile(r"^\[([^\[\]\n]+)\][ \t]*$", re.MULTILINE)
SYSTEM = re.compile(r"\A\[SYSTEM\]\n(.*?)^\[USER\]\n", re.MULTILINE | re.DOTALL)

#: Placeholders of the answers, and of the closing line.
NEEDED: Mapping[TemplateKind, tuple[tuple[str, ...], str]] = {
    "pair": (("answer_a", "answer_b"), "verdict"),
    "single": (("answer",), "score"),
}

#: How much better the first answer is, as a probability.
VERDICTS = {"A": 1.0, "B": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Template:
    """A template that was read and found whole."""

    kind: TemplateKind
    system: str
    """Empty where there is none."""
    user: str
    verdicts: Mapping[str, float]
    """Each closing line that an answer may have, and what it says: P(A is better), or the score."""
    wanted: str
    """What stands in the question where the verdict belongs."""

    def messages(self, prompt: Messages, *answers: str) -> list[dict[str, str]]:
        """The question about one or two answers to a prompt."""
        turns = [{**turn, "content": self.harmless(turn["content"])} for turn in prompt]
        names, closing = NEEDED[self.kind]
        texts = dict(zip(names, map(self.harmless, answers), strict=True))
        texts |= {"conversation": ab.context(turns), closing: self.wanted}
        parts = [("system", self.system)] if self.system else []
        return [
            {"role": role, "content": PLACEHOLDER.sub(lambda found: texts[found[1]], text)}
            for role, text in [*parts, ("user", self.user)]
        ]

    def fitted(
        self, prompt: Messages, *answers: str, fits: Callable[[Messages], bool]
    ) -> list[dict[str, str]] | None:
        """The question cut until it `fits`, or None where that would need a cut in the answers.

        As in the A/B question the oldest turns go first, whole; then the beginning of the last one.
        """
        for first in range(len(prompt)):
            if fits(asked := self.messages(prompt[first:], *answers)):
                return asked
        tail = ab.longest_tail(prompt[-1], lambda turn: fits(self.messages([turn], *answers)))
        return None if tail is None else self.messages([tail], *answers)

    def harmless(self, text: str) -> str:
        """The text with round brackets around what would read as a section or turn marker."""
        return self.markers.sub(lambda found: f"({found[1]})", ab.harmless(text))

    @cached_property
    def markers(self) -> re.Pattern[str]:
        """Finds the names of this template's sections in brackets, whatever their case and spaces."""
        words = [name.split() for name in ["SYSTEM", "USER", *SECTION.findall(self.user)]]
        either = "|".join(r"\s*".join(re.escape(word) for word in name) for name in words)
        return re.compile(rf"\[(\s*(?:{either})\s*)\]", re.IGNORECASE)

    def parse(self, answer: str) -> float | None:
        """What the last line of an answer says, spaces around it aside; None unless it is a closing line."""
        return self.verdicts.get(answer.strip().rpartition("\n")[2].strip())


def load_template(path: Path) -> Template:
    """The template in a file, its kind told by its closing line: one with a score rates a single answer.

    UserError names the file, and each placeholder that is missing or unknown.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: expected a template, UTF-8 text, found {' '.join(str(error).split())}; correct the "
            "path in params.yaml, or start from recipes/templates/pair.txt"
        ) from None
    asked = {match[1] for match in PLACEHOLDER.finditer(text)}
    kind: TemplateKind = "single" if "score" in asked and "verdict" not in asked else "pair"
    check_placeholders(path, kind, text)
    closing = CLOSING.search(text)
    if closing is None or PLACEHOLDER.search(closing[1]):
        form = "Verdict: {verdict}" if kind == "pair" else "Score: {score:1-10}"
        raise UserError(
            f"{path}: expected a closing line such as '{form}', its placeholder at its end and no other in "
            f"it, found none; compare with recipes/templates/{kind}.txt"
        )
    values, wanted = VERDICTS, "A, B or tie"
    if kind == "single":
        lowest, highest = int(closing[3]), int(closing[4])
        if lowest >= highest:
            raise UserError(
                f"{path}: expected a scale from a lower to a higher number, found {{{closing[2]}}}; "
                "write it as in {score:1-10}"
            )
        values = {str(score): float(score) for score in range(lowest, highest + 1)}
        wanted = f"an integer from {lowest} to {highest}"
    system = SYSTEM.match(text)
    return Template(
        kind=kind,
        system=system[1].strip() if system else "",
        user=text[system.end() if system else 0 :].strip(),
        verdicts={f"{closing[1].lstrip()}{word}": value for word, value in values.items()},
        wanted=wanted,
    )


def check_placeholders(path: Path, kind: TemplateKind, text: str) -> None:
    """UserError unless each placeholder of the kind stands in the text once, and no other does."""
    found = Counter(match[1] for match in PLACEHOLDER.finditer(text))
    answers, closing = NEEDED[kind]
    needed = ("conversation", *answers, closing)
    wrong = [f"{{{name}}} is missing" for name in needed if not found[name]]
    wrong += [f"{{{name}}} stands there {n} times" for name, n in found.items() if name in needed and n > 1]
    wrong += [f"{{{name}}} is unknown" for name in sorted(set(found) - set(needed))]
    if wrong:
        raise UserError(
            f"{path}: expected each placeholder of a {kind} template once "
            f"({', '.join(f'{{{name}}}' for name in needed)}), found: {'; '.join(wrong)}; edit that file"
        )
