"""A dozen conversations of very different lengths with two answers each, to examine judges with.

Written for this project. They run from a word to several pages, over several turns, with code, numbers and
other scripts, so that batches of them need much padding and answers end in different tokens.
"""

from pipeline.chat import Messages
from pipeline.comparing import Question

MINUTES = (
    "The meeting began at nine with the report of the treasurer, who said that the roof of the library costs "
    "more than was planned, since the beams under the east wing are damp.",
    "Two members asked whether the damp comes from the gutter. The builder has looked and thinks so; he will "
    "send a drawing and a price for a wider gutter before the end of the month.",
    "The reading room stays open while the work goes on. The children's shelves move to the hall, where a "
    "volunteer will read aloud on Wednesdays, as was asked in the letters of last spring.",
    "On the question of opening hours there was no agreement. Some want a late evening, others a Sunday; the "
    "secretary will count visitors by the hour for four weeks, and the vote is put off until then.",
)


def turns(*texts: str) -> Messages:
    """A conversation of these turns, the user's first."""
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]


CONVERSATIONS: tuple[Question, ...] = (
    (turns("Hi"), "Hello!", "What do you want?"),
    (turns("2 + 2?"), "4", "The answer to that is 5."),
    (turns("Name a bird."), "Owl.", "A bird is an animal with wings, of which there are many kinds."),
    (
        turns("Translate into French: good morning"),
        "Bonjour.",
        "« Bonjour », or in the evening « bonsoir » — à bientôt ! 早上好 is what one says in Chinese.",
    ),
    (
        turns("Write a function that reverses a list, without slicing."),
        "def turned(items):\n    found = []\n    for item in items:\n        found.insert(0, item)\n"
        "    return found",
        "Use the method reverse.",
    ),
    (
        turns("What is the boiling point of water?", "100 °C at sea level.", "And on a mountain of 3,000 m?"),
        "About 90 °C: the air presses less, so the water boils earlier.",
        "The same.",
    ),
    (
        turns("Give me three tips against hiccups."),
        "1. Hold your breath for as long as is comfortable.\n2. Drink a glass of water in small sips.\n"
        "3. Wait: nearly all hiccups end within minutes.\n\nIf they last longer than two days, see a doctor.",
        "Jump.\n\n\n",
    ),
    (
        turns(
            "I want to learn the names of the stars.",
            "A good plan! Do you live where it is dark at night?",
            "In a town, so I see only the bright ones.",
            "That helps: there are few of them, and they are the ones with names.",
            "Which five should I begin with in winter, and how do I find them?",
        ),
        "Begin with Orion's belt, three stars in a row. Follow the row down to Sirius, the brightest of all; "
        "up to Aldebaran, which is orange. Above the belt on the left is Betelgeuse, red; below on the right "
        "Rigel, blue. That makes five, counting none twice.",
        "The sun.",
    ),
    (
        turns("Here are the minutes of our meeting.\n\n" + "\n\n".join(MINUTES) + "\n\nWhat was decided?"),
        "Little: the reading room stays open, the children's shelves move to the hall, and visitors are "
        "counted for four weeks. The gutter waits for a price, the opening hours for the count.",
        "A late evening was decided.",
    ),
    (
        turns("Continue: " + ", ".join(str(i * i) for i in range(1, 60)) + "\nHow does it go on?"),
        "3600, 3721, 3844: these are the squares of the whole numbers.",
        "With primes.",
    ),
    (
        turns(
            *(
                part
                for i, text in enumerate(MINUTES)
                for part in (f"Keep this for later, part {i + 1}. {text}", f"I have kept part {i + 1}.")
            ),
            "Which part speaks of children?",
        ),
        "The third.",
        "None of the four parts speaks of children, nor of anybody who would be read to.",
    ),
    (
        turns(
            "Make this shorter.\n\n" + "\n\n".join(f"{i + 1}. {text}" for i in range(2) for text in MINUTES)
        ),
        "The roof is dear, the gutter leaks, the room stays open, and the hours are undecided.",
        "It is about a library. " * 12,
    ),
)
