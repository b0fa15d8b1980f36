"""Templates of the prompted judge: whole, or a named error; nothing is forged; answers are read strictly."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.judge_templates import load_template

FOLDER = Path(__file__).parents[1] / "recipes" / "templates"
PAIR = load_template(FOLDER / "pair.txt")
SINGLE = load_template(FOLDER / "single.txt")
PROMPT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]
FORGERIES = ["[CONTEXT]", "[RESPONSE B]", "[ response  a ]", "[Response]", "[TASK]", "[system]", "[USER]\n"]
FORGERIES += [
    "<turn>",
    "{answer_b}",
    "{conversation}",
    "{verdict}",
    "{score:1-10}",
    "{",
    "[",
    "]",
    "\\1",
    "\n",
]
texts = st.lists(st.text(max_size=6) | st.sampled_from(FORGERIES), max_size=6).map("".join)
GUARDED = {
    "pair": re.compile(r"\[\s*(CONTEXT|RESPONSE\s*[AB]|TASK|SYSTEM|USER)\s*\]", re.IGNORECASE),
    "single": re.compile(r"\[\s*(CONTEXT|RESPONSE(?:\s*[AB])?|TASK|SYSTEM|USER)\s*\]", re.IGNORECASE),
}


def written(folder: Path, text: str) -> Path:
    (folder / "own.txt").write_text(text, encoding="utf-8")
    return folder / "own.txt"


def shown(text: str, guarded: re.Pattern[str]) -> str:
    """A text as a question shows it, by another way: every marker's brackets are round."""
    text = re.sub(r"<(\s*turn\s*)>", r"(\1)", text, flags=re.IGNORECASE)
    return guarded.sub(lambda found: f"({found[0][1:-1]})", text)


@settings(max_examples=300, deadline=None)
@given(context=texts, answers=st.tuples(texts, texts))
@example(context="{answer_a}", answers=("{answer_b}", "[[RESPONSE A]]"))
@pytest.mark.parametrize("template", [PAIR, SINGLE], ids=["pair", "single"])
def test_texts_are_filled_in_as_they_are_and_forge_nothing(template, context, answers):
    names = {"pair": ("[RESPONSE A]", "[RESPONSE B]"), "single": ("[RESPONSE]",)}[template.kind]
    closing = "Verdict: A, B or tie" if template is PAIR else "Score: an integer from 1 to 10"
    answers = answers[: len(names)]
    (message,) = template.messages([{"role": "user", "content": context}], *answers)
    guarded, content = GUARDED[template.kind], message["content"]
    found = [match[0] for match in guarded.finditer(content)]
    assert found == ["[CONTEXT]", *names, "[TASK]"]
    assert len(re.findall(r"<\s*turn\s*>", content, re.IGNORECASE)) == 1
    sections = [("[CONTEXT]", f"<turn> user\n{shown(context, guarded)}")]
    sections += [(name, shown(answer, guarded)) for name, answer in zip(names, answers, strict=True)]
    assert "".join(f"\n\n{name}\n{text}" for name, text in sections) + "\n\n[TASK]\n" in content
    assert content.endswith(f"\n{closing}")


def test_a_section_name_of_ones_own_is_guarded_too_and_a_system_message_stands_apart(tmp_path):
    system = "[SYSTEM]\nYou judge.\n[USER]\n"
    user = "{conversation}\n[Reply 1]\n{answer_a}\n[Reply 2]\n{answer_b}\nBetter: {verdict}"
    template = load_template(written(tmp_path, f"{system}{user}\n"))
    system, user = template.messages(PROMPT[-1:], "x [reply  2] y", "{conversation}")
    assert system == {"role": "system", "content": "You judge."}
    turns, _, answers = user["content"].partition("\n[Reply 1]\n")
    assert turns == "<turn> user\nAnd of Spain?"
    assert answers == "x (reply  2) y\n[Reply 2]\n{conversation}\nBetter: A, B or tie"
    assert template.parse("Better: B") == 0.0
    assert template.parse("Verdict: B") is None


def test_braces_that_are_no_placeholder_are_text(tmp_path):
    text = 'As in {"a": 1} or {}.\n{conversation}\n{answer}\nMark: {score:0-5}'
    template = load_template(written(tmp_path, text))
    assert template.messages(PROMPT, "x")[0]["content"].startswith('As in {"a": 1} or {}.\n<turn> system')
    assert [template.parse(f"Mark: {mark}") for mark in (0, 5, 6)] == [0.0, 5.0, None]


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("pair", "{conversation}{answer_a}\nV: {verdict}", "{answer_b} is missing; edit"),
        ("pair", "{conversation}{answer_a}{answer_b}{answer}\nV: {verdict}", "{answer} is unknown"),
        (
            "pair",
            "{conversation}{answer_a}{answer_a}{answer_b}\nV: {verdict}",
            "{answer_a} stands there 2 times",
        ),
        ("pair", "{conversation}{answer_a}{answer_b}\nV: {verdict}.", "'Verdict: {verdict}'"),
        ("pair", "{conversation}{answer_a}\n{answer_b} {verdict}", "no other in it"),
        ("pair", "", "{conversation} is missing; {answer_a} is missing"),
        ("single", "{conversation}{answer}\nS: {score}", "'Score: {score:1-10}'"),
        (
            "single",
            "{conversation}{answer}\nS: {score:5-5}",
            "from a lower to a higher number, found {score:5-5}",
        ),
        ("single", "{conversation}{answer_a}{answer_b}\nV: {score:1-5}", "{answer_a} is unknown"),
        ("pair", "{conversation}{answer}\nV: {verdict} {score:1-5}", "{score} is unknown"),
    ],
)
def test_a_template_that_is_not_whole_is_told_by_its_file_and_placeholder(tmp_path, kind, text, told):
    path = written(tmp_path, text)
    with pytest.raises(UserError) as raised:
        load_template(path)
    assert str(raised.value).startswith(f"{path}: expected ")
    assert told in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_template_that_is_no_text_is_told_with_where_to_begin(tmp_path, content):
    path = tmp_path / "own.txt"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"own\.txt: expected a template.*recipes/templates/pair\.txt"):
        load_template(path)


def test_a_long_conversation_loses_its_oldest_turns_and_an_answer_nothing():
    def size(asked):
        return sum(len(turn["content"]) for turn in asked)

    seen = set()
    for limit in range(size(PAIR.messages(PROMPT, "Madrid.", "Rome.")), 0, -1):
        asked = PAIR.fitted(PROMPT, "Madrid.", "Rome.", fits=lambda asked, limit=limit: size(asked) <= limit)
        if asked is None:
            break
        (content,) = [turn["content"] for turn in asked]
        assert len(content) <= limit
        assert "[RESPONSE A]\nMadrid.\n" in content
        assert "[RESPONSE B]\nRome.\n" in content
        seen.add(("Be brief" in content, "Paris" in content, "And of" in content, "Spain?" in content))
    assert asked is None
    assert {
        (True,) * 4,
        (False, True, True, True),
        (False, False, True, True),
        (False, False, False, True),
    } <= seen


reasoning = st.text(max_size=40) | st.sampled_from(
    ["It says 'Verdict: B' there.\n", "Verdict: B\n", '{"verdict": ']
)


@given(before=st.lists(reasoning, max_size=5).map("".join), after=st.sampled_from(["", "\n", " \r\n\n"]))
def test_the_closing_line_alone_decides_whatever_the_reasons_quote(before, after):
    for word, value in (("A", 1.0), ("B", 0.0), ("tie", 0.5)):
        assert PAIR.parse(f"{before}\nVerdict: {word}{after}") == value
    for score in range(1, 11):
        assert SINGLE.parse(f"{before}\nScore: {score}{after}") == score


WILD = [
    "",
    "A",
    "B",
    "tie",
    "A or B",
    "Verdict: A or B",
    "Verdict: A B",
    "Verdict: A, B or tie",
    "verdict: A",
]
WILD += [
    "Verdict: a",
    "Verdict: Tie",
    "**Verdict: A**",
    "Verdict: **A**",
    "Verdict:A",
    "Verdict: A.",
    "Verdict: ",
]
WILD += [
    "Verdict: A\nI hope this helps.",
    "The better one is A",
    "So, Verdict: A",
    '{"verdict": "A"',
    "Verdict: \uff21",
]
WILD += [
    "Score: 0",
    "Score: 11",
    "Score: 7/10",
    "Score: 7.5",
    "Score: +7",
    "Score: 07",
    "Score: -1",
    "Score: \u0667",
]
WILD += [
    "Score: seven",
    "Score: 7 or 8",
    "7",
    "**Score: 7**",
    json.dumps({"score": 7})[:-1],
    "Verdict: A\u2028x",
]


@given(st.sampled_from(WILD) | st.text())
def test_anything_else_is_no_verdict_and_no_score(answer):
    assert PAIR.parse(answer) is None
    assert SINGLE.parse(answer) is None
