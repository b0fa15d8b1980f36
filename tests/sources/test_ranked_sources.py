"""Sources whose pairs are made here, from scores of several answers to a prompt."""

import inspect
import json
import random

import pytest

from pipeline import sources
from pipeline.items import Drop, Preference
from pipeline.raw import RawRow
from pipeline.sources import helpsteer
from tests.sources.outcomes import assistant, one, outcomes, reasons, user

ALL = {"pairs": "all"}
BEST = {"pairs": "best_vs_worst"}


def completion(text: str, fine: object, overall: object = None, **ratings: str) -> dict:
    annotations = {aspect: {"Rating": rating, "Rationale": "r"} for aspect, rating in ratings.items()}
    return {
        "response": text,
        "model": f"m{text}",
        "fine-grained_score": fine,
        "overall_score": overall,
        "annotations": annotations,
    }


def ultrafeedback(rules: dict, *completions: dict, score: str = "fine-grained_score") -> list:
    row = {"instruction": "Q", "completions": list(completions)}
    [items] = outcomes("ultrafeedback", rules | {"score": score}, row)
    return items


def test_ultrafeedback_makes_every_pair_and_names_ties_and_missing_scores():
    items = ultrafeedback(
        ALL, completion("a", 4.5), completion("b", 2.0), completion("c", 2.0), completion("d", "N/A")
    )
    assert reasons(items) == ["kept", "kept", "missing score", "tie", "missing score", "missing score"]
    assert items[0] == Preference([user("Q")], "a", "b", 4.5, 2.0, "ma", "mb")


def test_ultrafeedback_keeps_two_answers_of_the_same_model_apart():
    twins = [completion("a", 4.0) | {"model": "m"}, completion("b", 1.0) | {"model": "m"}]
    assert ultrafeedback(ALL, *twins) == [Preference([user("Q")], "a", "b", 4.0, 1.0, "m", "m")]


def test_best_vs_worst_makes_one_pair_and_skips_missing_scores():
    answers = [completion("a", 3.0), completion("b", "N/A"), completion("c", 5.0), completion("d", 1.0)]
    assert ultrafeedback(BEST, *answers) == [Preference([user("Q")], "c", "d", 5.0, 1.0, "mc", "md")]
    assert ultrafeedback(BEST, completion("a", 3.0), completion("b", "N/A")) == [Drop("missing score", 1, 2)]
    assert reasons(ultrafeedback(BEST, completion("a", 3.0), completion("b", 3.0))) == ["tie"]


def test_one_answer_makes_no_pair_but_one_item():
    assert ultrafeedback(ALL, completion("a", 3.0)) == [Drop("fewer than two answers", 1, 2)]
    assert ultrafeedback(ALL) == [Drop("fewer than two answers", 0, 2)]


def test_an_overall_score_of_ten_that_its_ratings_deny_is_read_as_one():
    wrong, right = completion("a", 1.5, 10), completion("b", 4.5, 6)
    [item] = ultrafeedback(ALL, wrong, right, score="overall_score")
    assert (item.chosen, item.chosen_score, item.rejected_score) == ("b", 6.0, 1.0)
    [item] = ultrafeedback(ALL, completion("a", 4.5, 10), right, score="overall_score")
    assert item.chosen == "a"


def test_the_mean_rating_leaves_out_what_is_not_rated():
    rated, unrated = (
        completion("a", None, honesty="N/A", helpfulness="2"),
        completion("b", None, honesty="N/A"),
    )
    [item] = ultrafeedback(
        ALL, rated, completion("c", None, honesty="1", helpfulness="2"), score="mean_rating"
    )
    assert (item.chosen_score, item.rejected_score) == (2.0, 1.5)
    assert reasons(ultrafeedback(ALL, rated, unrated, score="mean_rating")) == ["missing score"]


def code(ratings: list[tuple[str, str]], models: tuple[str, ...] = ("a", "b")) -> list:
    row = {
        "instruction": "Q",
        "responses": [{"model": model, "response": f"by {model}"} for model in models],
        "annotations": [{"model": model, "rating": rating} for model, rating in ratings],
    }
    [items] = outcomes("codeultrafeedback", ALL, row)
    return items


def test_code_ratings_are_numbers_and_not_strings():
    [item] = code([("a", "9"), ("b", "10")])
    assert (item.chosen, item.chosen_score) == ("by b", 10.0)


def test_a_code_rating_that_is_not_available_never_wins():
    assert code([("a", "5"), ("b", "N/A")]) == [Drop("missing score")]


def test_code_ratings_in_another_order_belong_to_their_model():
    [item] = code([("b", "5"), ("a", "1")])
    assert item.chosen == "by b"
    assert reasons(code([("a", "5")])) == ["missing score"]


def nectar(rules: dict, prompt: str = "\n\nHuman: Q\n\nAssistant: ", **change: object) -> list:
    answers = [
        {"answer": text, "model": text, "rank": rank} for text, rank in (("c", 3.0), ("a", 1.0), ("b", 2.0))
    ]
    row = {"prompt": prompt, "answers": answers, "good_natured": True} | change
    [items] = outcomes("nectar", rules | {"good_natured_only": True}, row)
    return items


def test_nectar_prefers_the_lower_rank():
    assert nectar(BEST) == [Preference([user("Q")], "a", "c", -1.0, -3.0, "a", "c")]
    assert [(item.chosen, item.rejected) for item in nectar(ALL)] == [("a", "c"), ("b", "c"), ("a", "b")]


def test_nectar_keeps_earlier_turns_and_names_its_drops():
    items = nectar(BEST, "\n\nHuman: Q\n\nAssistant: A\n\nHuman: Q2\n\nAssistant: ")
    assert items[0].prompt == [user("Q"), assistant("A"), user("Q2")]
    assert reasons(nectar(BEST, "Q")) == ["malformed transcript"]
    assert reasons(nectar(BEST, "\n\nHuman: Q")) == ["malformed transcript"]
    assert reasons(nectar(BEST, good_natured=False)) == ["not good-natured"]
    assert nectar(BEST, good_natured=None) == [Drop("wrong shape", detail="good_natured: Field required")]


HELPSTEER = ALL | {"attributes": ["helpfulness", "correctness"]}


def rated(prompt: str, text: str, helpfulness: object, correctness: object = 2) -> dict:
    other = {"coherence": 4, "complexity": 1, "verbosity": 1}
    return {
        "prompt": prompt,
        "response": text,
        "helpfulness": helpfulness,
        "correctness": correctness,
    } | other


def test_helpsteer_pairs_the_rows_of_a_prompt_wherever_they_stand():
    rows = [rated("P", "low", 0), rated("lone", "x", 1), rated("P", "high", 4), rated("P", "low too", 0)]
    found = outcomes("helpsteer", HELPSTEER, *rows)
    assert reasons(found[0]) == ["paired at a later row of its prompt"]
    assert found[1] == [Drop("fewer than two answers", 1, 2)]
    assert found[2] == [Preference([user("P")], "high", "low", 3.0, 1.0)]
    assert reasons(found[3]) == ["tie", "kept"]


def test_helpsteer_keeps_no_answers_of_prompts_that_are_complete():
    values = [rated(f"P{n // 2}", f"answer {n}", n % 5) for n in range(8)]
    rows = [RawRow("f.jsonl", n, value) for n, value in enumerate(values)]
    rules = helpsteer.Rules.model_validate_json(json.dumps(HELPSTEER))
    items = helpsteer.items(rows, rules)
    assert inspect.isgenerator(items)
    held = [sum(map(len, items.gi_frame.f_locals["held"].values())) for _ in items if items.gi_frame]
    assert held == [1, 2] * 4


def test_helpsteer_best_vs_worst_stands_at_the_last_row():
    rows = [rated("P", "low", 0), rated("P", "high", 4), rated("P", "middle", 2)]
    found = outcomes("helpsteer", HELPSTEER | BEST, *rows)
    later = ["paired at a later row of its prompt"]
    assert [reasons(items) for items in found] == [later, later, ["kept"]]
    assert (found[2][0].chosen, found[2][0].rejected) == ("high", "low")


def test_helpsteer_attributes_decide_the_score():
    rows = [rated("P", "helpful", 4, 0), rated("P", "correct", 0, 3)]
    assert outcomes("helpsteer", HELPSTEER, *rows)[1][0].chosen == "helpful"
    assert outcomes("helpsteer", HELPSTEER | {"attributes": ["correctness"]}, *rows)[1][0].chosen == "correct"
    rows[0]["helpfulness"] = None
    assert reasons(outcomes("helpsteer", HELPSTEER, *rows)[1]) == ["missing score"]


SHP = {"min_ratio": 2.0, "max_pairs_per_prompt": 2, "seed": 1}


def post(history: str, a: int, b: int, ratio: float, label: int = 1) -> dict:
    texts = {"human_ref_A": f"{history} a {a}", "human_ref_B": f"{history} b {b}"}
    return {"history": history, "score_A": a, "score_B": b, "labels": label, "score_ratio": ratio} | texts


def test_shp_orders_by_label_and_carries_votes():
    assert one("shp", SHP, post("P", 12, 4, 3.0)) == Preference([user("P")], "P a 12", "P b 4", 12.0, 4.0)
    assert one("shp", SHP, post("P", 4, 12, 3.0, label=0)).chosen == "P b 12"


@pytest.mark.parametrize(
    ("row", "drop"),
    [
        (post("P", 8, 4, 2.0), Drop("score ratio not above minimum", 2.0, 2.0)),
        (post("P", 4, 4, 1.0), Drop("tie", 4.0)),
        (post("P", 4, 12, 3.0), Drop("label contradicts the votes", -8.0, 0.0)),
    ],
)
def test_shp_names_its_drops(row, drop):
    assert one("shp", SHP, row) == drop


def chosen_texts(rows: list[dict], rules: dict) -> set[str]:
    return {item.chosen for [item] in outcomes("shp", rules, *rows) if isinstance(item, Preference)}


def test_shp_caps_the_pairs_of_a_prompt_whatever_the_row_order():
    rows = [post("P", n, 1, float(n)) for n in range(3, 9)] + [post("R", 9, 1, 9.0)]
    kept = chosen_texts(rows, SHP)
    assert len(kept) == 3
    shuffled = random.Random(0).sample(rows, len(rows))
    assert chosen_texts(shuffled, SHP) == kept
    assert chosen_texts([*rows, post("S", 9, 1, 9.0)], SHP) == kept | {"S a 9"}
    dropped = [item for [item] in outcomes("shp", SHP, *rows) if isinstance(item, Drop)]
    assert set(dropped) == {Drop("over the cap per prompt", 6, 2)}


def test_shp_gives_a_repeated_pair_no_second_place():
    rows = [post("P", n, 1, float(n)) for n in range(3, 9)]
    kept = chosen_texts(rows, SHP)
    assert chosen_texts(rows * 3, SHP) == kept
    found = outcomes("shp", SHP, *rows * 3)
    assert sum(isinstance(item, Preference) for [item] in found) == 6


def test_shp_gives_a_pair_that_is_not_valid_no_place():
    """The validity rules drop it later, under its own reason."""
    rows = [post("P", n, 1, float(n)) for n in (3, 4)]
    blank, same = ({"human_ref_A": text, "human_ref_B": other} for text, other in ((" \n", "b"), ("x", "x")))
    invalid = [post("P", n, 1, float(n)) | change for n in range(5, 30) for change in (blank, same)]
    assert chosen_texts(rows + invalid, SHP) == {"P a 3", "P a 4", " \n", "x"}
    assert not [item for [item] in outcomes("shp", SHP, *rows, *invalid) if isinstance(item, Drop)]


@pytest.mark.parametrize("adapter", ["shp", "helpsteer"])
def test_rows_that_can_be_read_only_once_are_refused(adapter):
    module = sources.adapter(adapter)
    with pytest.raises(AssertionError, match="read twice"):
        next(module.items(iter([]), None))


def test_shp_seed_chooses_other_pairs():
    rows = [post("P", n, 1, float(n)) for n in range(3, 40)]
    assert len({frozenset(chosen_texts(rows, SHP | {"seed": seed})) for seed in range(5)}) > 1
