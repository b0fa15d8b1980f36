"""Questions of multiple choice as benchmark texts, in the forms in which prompts have them."""

from collections.abc import Sequence

from pipeline.items import Benchmark, Item


def multiple_choice(
    question: str, choices: Sequence[str], labels: Sequence[str], *, with_choices: bool
) -> list[Item]:
    """The question alone; with choices also the question and its choices, bare and with their labels.

    A question that many rows share ("Which of these is true?") can only be told by its choices, and a label
    between them ("A. 3 B. 4") parts the words of one from those of the next.
    """
    if not with_choices or not choices:
        return [Benchmark(question)]
    labelled = [f"{label}. {choice}" for label, choice in zip(labels, choices, strict=True)]
    return [
        Benchmark("\n".join(texts)) for texts in ([question], [question, *choices], [question, *labelled])
    ]
