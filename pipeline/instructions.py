"""Alpaca's way to put a request: an instruction and, often, an input it applies to."""

#: What some Alpaca-like sets write for a missing input.
NO_INPUT = frozenset({"", "<noinput>", "noinput", "n/a", "none"})


def instruction_text(instruction: str, given: str | None) -> str:
    """The request as one text: the instruction, then after a blank line the input, where there is one."""
    if given is None or given.strip().lower() in NO_INPUT:
        return instruction.strip()
    return f"{instruction.strip()}\n\n{given.strip()}"
