"""Alpaca's way to put a request: an instruction and, often, an input it applies to."""

import re

#: What Alpaca writes for a missing input: "<noinput>", "No input.", "No input required." and so on.
NO_INPUT = re.compile(r"\W*(no\W*input|ninput)(\W*(needed|required))?\W*", re.IGNORECASE)


def instruction_text(instruction: str, given: str | None) -> str:
    """The request as one text: the instruction, then after a blank line the input, where there is one."""
    if not given or not given.strip() or NO_INPUT.fullmatch(given):
        return instruction.strip()
    return f"{instruction.strip()}\n\n{given.strip()}"
