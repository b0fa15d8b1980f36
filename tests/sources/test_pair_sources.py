"""Sources whose pairs upstream has put in order, or labelled: the happy path, the quirks, the drops."""

import hashlib

import pytest

from pipeline.items import Drop, Preference
from tests.sources.outcomes import assistant, one, outcomes, reasons, user

AGREE = {"scores_must_agree": True}


def transcript(*turns: str) -> str:
    return "".join(
        f"\n\n{name}: {text}" for name, text in zip(["Human", "Assistant"] * 9, turns, strict=False)
    )


def test_hh_keeps_all_turns_before_the_last_as_the_prompt():
    row = {
        "chosen": transcript("Hi", "Hello", "A colour?", " Blue. "),
        "rejected": transcript("Hi", "Hello", "A colour?", "No"),
    }
    prompt = [user("Hi"), assistant("Hello"), user("A colour?")]
    assert one("hh_rlhf", {}, row) == Preference(prompt, "Blue.", "No")


def test_hh_splits_at_the_last_turn_even_where_the_answers_begin_alike():
    row = {"chosen": transcript("Q", "Same start, A"), "rejected": transcript("Q", "Same start, B")}
    assert one("hh_rlhf", {}, row) == Preference([user("Q")], "Same start, A", "Same start, B")


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (transcript("Q", "A", "Q2", "A2"), transcript("Q", "B", "Q2", "A3"), "contexts differ"),
        (transcript("Q", "A"), transcript("Q", "A", "Q2"), "no answer"),
        (transcript("Q", "A"), transcript("Q", "A", "Q2", "B"), "contexts differ"),
        ("no transcript", transcript("Q", "A"), "malformed transcript"),
        ("before" + transcript("Q", "A"), transcript("Q", "A"), "malformed transcript"),
        ("", "", "malformed transcript"),
    ],
)
def test_hh_names_what_is_no_pair(chosen, rejected, reason):
    assert one("hh_rlhf", {}, {"chosen": chosen, "rejected": rejected}).reason == reason


PKU = {
    "prompt": "P",
    "response_0": "zero",
    "response_1": "one",
    "better_response_id": 1,
    "safer_response_id": 0,
}


def pku(row: dict, label: str = "better", *, safe: bool = False) -> object:
    return one("pku_saferlhf", {"label": label, "require_safe_chosen": safe}, row)


def test_pku_label_decides_the_order():
    assert pku(PKU) == Preference([user("P")], "one", "zero")
    assert pku(PKU, "safer") == Preference([user("P")], "zero", "one")


def test_pku_single_dimension_has_no_safer_label():
    row = {key: value for key, value in PKU.items() if key != "safer_response_id"}
    assert pku(row, "safer").reason == "missing label"
    assert isinstance(pku(row), Preference)


def test_pku_can_ask_for_a_safe_chosen_answer():
    row = PKU | {"is_response_0_safe": True, "is_response_1_safe": False}
    assert pku(row, "better", safe=True).reason == "chosen is not labelled safe"
    assert pku(row, "safer", safe=True).chosen == "zero"
    assert pku(PKU, "safer", safe=True).reason == "chosen is not labelled safe"


def test_pku_checks_the_digest_of_prompt_and_answer():
    right = hashlib.sha256(b"Pzero").hexdigest()
    assert isinstance(pku(PKU | {"response_0_sha256": right}), Preference)
    assert pku(PKU | {"response_1_sha256": right}).reason == "digest mismatch"


def test_pku_refuses_a_label_that_is_no_index():
    assert pku(PKU | {"better_response_id": 2}).reason == "wrong shape"
    assert pku(PKU | {"better_response_id": True}).reason == "wrong shape"


BINARIZED = {
    "chosen": [user("Q"), assistant("good")],
    "rejected": [user("Q"), assistant("bad")],
    "score_chosen": 8.0,
    "score_rejected": 5,
}


def test_binarized_ultrafeedback_takes_the_prompt_from_both_sides():
    expected = Preference([user("Q")], "good", "bad", 8.0, 5.0)
    assert one("ultrafeedback_binarized", AGREE, BINARIZED) == expected


@pytest.mark.parametrize(
    ("change", "reason", "value", "threshold"),
    [
        ({"score_rejected": 8.0}, "tie", 8.0, None),
        ({"score_rejected": 9.0}, "rejected is rated higher", -1.0, 0.0),
    ],
)
def test_scores_that_break_the_rules_are_named_with_their_values(change, reason, value, threshold):
    assert one("ultrafeedback_binarized", AGREE, BINARIZED | change) == Drop(reason, value, threshold)


@pytest.mark.parametrize("missing", ["N/A", "", None, float("nan")])
def test_a_missing_score_is_a_reason_to_drop_only_where_scores_must_agree(missing):
    row = BINARIZED | {"score_rejected": missing}
    item = one("ultrafeedback_binarized", {"scores_must_agree": False}, row)
    assert (item.chosen_score, item.rejected_score) == (8.0, None)
    assert one("ultrafeedback_binarized", AGREE, row) == Drop("missing score")


def test_without_rules_on_scores_upstreams_order_stands():
    assert (
        one(
            "ultrafeedback_binarized", {"scores_must_agree": False}, BINARIZED | {"score_rejected": 9.0}
        ).chosen
        == "good"
    )


def test_binarized_ultrafeedback_names_conversations_that_are_no_pair():
    other = BINARIZED | {"rejected": [user("Q2"), assistant("bad")]}
    open_end = BINARIZED | {"chosen": [user("Q")]}
    found = outcomes("ultrafeedback_binarized", AGREE, other, open_end, BINARIZED | {"chosen": []})
    assert [reasons(items)[0] for items in found] == ["contexts differ", "no answer", "no answer"]


def test_orca_keeps_the_system_prompt_unless_it_is_blank():
    row = {"system": "Be brief.", "question": "Q", "chosen": "a", "rejected": "b"}
    assert one("orca_dpo_pairs", {}, row).prompt == [{"role": "system", "content": "Be brief."}, user("Q")]
    assert one("orca_dpo_pairs", {}, row | {"system": " "}).prompt == [user("Q")]


ORCA = {
    "system": "",
    "input": "Q",
    "chosen": "a",
    "rejected": "b",
    "order": ["rejected", "chosen"],
    "rating": [7.0, 9.0],
    "in_gsm8k_train": False,
}
ORCA_RULES = AGREE | {"min_chosen_score": None, "drop_gsm8k": True}


def test_distilabel_orca_gives_chosen_the_higher_rating_also_where_the_pair_was_swapped():
    for row in (ORCA, ORCA | {"rating": [9.0, 7.0], "status": "swapped"}):
        assert one("distilabel_orca", ORCA_RULES, row) == Preference([user("Q")], "a", "b", 9.0, 7.0)


def test_distilabel_orca_finds_a_rating_by_its_answer():
    row = ORCA | {"generations": ["b", "a"], "rating": [9.0, 7.0], "status": "unchanged"}
    assert one("distilabel_orca", ORCA_RULES, row).reason == "rejected is rated higher"
    item = one("distilabel_orca", {**ORCA_RULES, "scores_must_agree": False}, row)
    assert (item.chosen_score, item.rejected_score) == (7.0, 9.0)
    unrated = ORCA | {"generations": ["a", "b"], "rating": [9.0, None]}
    assert one("distilabel_orca", ORCA_RULES, unrated) == Drop("missing score")
    any_order = ORCA_RULES | {"scores_must_agree": False}
    assert one("distilabel_orca", any_order, unrated).chosen_score == 9.0
    assert one("distilabel_orca", any_order, ORCA | {"rating": [9.0, None]}).chosen_score is None


def test_distilabel_orca_needs_the_column_that_its_rule_reads():
    row = {key: value for key, value in ORCA.items() if key != "in_gsm8k_train"}
    assert one("distilabel_orca", ORCA_RULES, row) == Drop(
        "wrong shape", detail="in_gsm8k_train: Field required"
    )
    assert isinstance(one("distilabel_orca", ORCA_RULES | {"drop_gsm8k": False}, row), Preference)


def test_distilabel_orca_names_its_drops():
    rows = (
        ORCA | {"in_gsm8k_train": True},
        ORCA | {"rating": [5.0, 5.0]},
        ORCA | {"rating": None},
        ORCA | {"rating": [6.0, 7.0]},
    )
    found = outcomes("distilabel_orca", ORCA_RULES | {"min_chosen_score": 8.0}, *rows)
    assert [items[0] for items in found] == [
        Drop("question is in the GSM8K train set"),
        Drop("chosen score below minimum", 5.0, 8.0),
        Drop("missing score"),
        Drop("chosen score below minimum", 7.0, 8.0),
    ]
    assert isinstance(one("distilabel_orca", ORCA_RULES | {"drop_gsm8k": False}, rows[0]), Preference)
    assert one("distilabel_orca", ORCA_RULES, rows[1]).reason == "tie"


def test_ultrainteract_keeps_the_whole_trajectory_and_can_choose_tasks():
    row = {
        "task": "Coding",
        "trajectory": [
            {"from": "user", "value": "Q"},
            {"from": "assistant", "value": "A"},
            {"from": "user", "value": "Q2"},
        ],
        "chosen": "good",
        "rejected": "bad",
    }
    assert one("ultrainteract", {"tasks": None}, row) == Preference(
        [user("Q"), assistant("A"), user("Q2")], "good", "bad"
    )
    assert one("ultrainteract", {"tasks": ["Logic"]}, row) == Drop("task not chosen", detail="Coding")


def test_argilla_math_carries_its_ratings():
    row = {
        "instruction": "Q",
        "chosen_response": "4",
        "chosen_rating": 5.0,
        "rejected_response": "5",
        "rejected_rating": 1,
    }
    assert one("argilla_math", AGREE, row) == Preference([user("Q")], "4", "5", 5.0, 1.0)
    assert one("argilla_math", AGREE, row | {"rejected_rating": 5.0}).reason == "tie"


@pytest.mark.parametrize(
    "names", [("chosen_rating", "rejected_rating"), ("rating_chosen", "rating_rejected")]
)
def test_capybara_is_multi_turn_and_knows_both_names_of_its_ratings(names):
    context = [user("Q"), assistant("A"), user("Q2")]
    row = {
        "chosen": [*context, assistant("good")],
        "rejected": [*context, assistant("bad")],
        "chosen_model": "m",
        **dict(zip(names, (5, 2), strict=True)),
    }
    assert one("capybara_preferences", AGREE, row) == Preference(context, "good", "bad", 5.0, 2.0, "m", None)


SUMMARY = {
    "info": {"title": "T", "post": "P"},
    "summaries": [{"text": " zero", "policy": "p0"}, {"text": "one", "policy": "p1"}],
    "choice": 1,
    "extra": {"confidence": 8},
}
SUMMARY_RULES = {"post_instruction": "Post:", "article_instruction": "Article:", "min_strength": None}


def test_summaries_are_ordered_by_choice_under_an_instruction():
    expected = Preference([user("Post:\n\nT\n\nP")], "one", "zero", None, None, "p1", "p0")
    assert one("summarize_from_feedback", SUMMARY_RULES, SUMMARY) == expected
    article = SUMMARY | {"info": {"title": None, "article": "N", "site": "x"}, "choice": 0}
    assert one("summarize_from_feedback", SUMMARY_RULES, article).prompt == [user("Article:\n\nN")]


def test_summaries_can_ask_for_a_sure_worker():
    rules = SUMMARY_RULES | {"min_strength": 3}
    unsure, silent = SUMMARY | {"extra": {"confidence": 6}}, SUMMARY | {"extra": {}}
    found = outcomes(
        "summarize_from_feedback", rules, SUMMARY, unsure, silent, SUMMARY | {"info": {"post": " "}}
    )
    assert [items[0].reason for items in found[1:]] == [
        "preference too weak",
        "missing confidence",
        "no text to summarize",
    ]
    assert found[1][0] == Drop("preference too weak", 1.0, 3)
    assert isinstance(found[0][0], Preference)


def test_a_summary_chosen_against_the_workers_own_confidence_is_dropped_where_strength_counts():
    row = SUMMARY | {"extra": {"confidence": 2}}
    rules = SUMMARY_RULES | {"min_strength": 1}
    drop = Drop("choice contradicts the confidence", 2.0, 5)
    assert one("summarize_from_feedback", rules, row) == drop
    assert isinstance(one("summarize_from_feedback", rules, row | {"choice": 0}), Preference)
    assert isinstance(one("summarize_from_feedback", SUMMARY_RULES, row), Preference)


@pytest.mark.parametrize("strength", [-2, 2])
def test_helpsteer2_orders_by_the_sign_of_the_strength(strength):
    row = {"prompt": "Q", "response_1": "one", "response_2": "two", "preference_strength": strength}
    found = one("helpsteer2", {"min_strength": 2}, row)
    assert (found.chosen, found.rejected) == (("two", "one") if strength > 0 else ("one", "two"))
    assert one("helpsteer2", {"min_strength": 3}, row) == Drop("preference too weak", 2, 3)
    assert one("helpsteer2", {"min_strength": 1}, row | {"preference_strength": 0}).reason == "tie"


def test_helpsteer2_reads_earlier_turns_out_of_the_prompt():
    prompt = "Q\n<extra_id_1>Assistant\nA\n<extra_id_1>User\nQ2"
    row = {"prompt": prompt, "response_1": "one", "response_2": "two", "preference_strength": 1}
    assert one("helpsteer2", {"min_strength": 1}, row).prompt == [user("Q"), assistant("A"), user("Q2")]


TRL = {"prompt": "explicit", "chosen_score": None, "rejected_score": None, "scores_must_agree": False}


@pytest.mark.parametrize(
    ("mode", "row"),
    [
        ("explicit", {"prompt": "Q", "chosen": "good", "rejected": "bad"}),
        ("explicit", {"prompt": [user("Q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]}),
        (
            "implicit",
            {
                "prompt": "Q",
                "chosen": [user("Q"), assistant("good")],
                "rejected": [user("Q"), assistant("bad")],
            },
        ),
    ],
)
def test_trl_pairs_gives_one_form_for_all(mode, row):
    assert one("trl_pairs", TRL | {"prompt": mode}, row) == Preference([user("Q")], "good", "bad")


def test_trl_pairs_reads_scores_from_named_columns():
    rules = TRL | AGREE | {"chosen_score": "up", "rejected_score": "down"}
    row = {"prompt": "Q", "chosen": "good", "rejected": "bad", "up": "1.5", "down": 2}
    assert one("trl_pairs", rules, row) == Drop("rejected is rated higher", -0.5, 0.0)
    assert one("trl_pairs", rules | {"scores_must_agree": False}, row).chosen_score == 1.5
    assert one("trl_pairs", rules, row | {"up": [1]}).reason == "wrong shape"
    assert one("trl_pairs", rules, row | {"up": None}) == Drop("missing score")
    renamed = rules | {"chosen_score": "upp", "scores_must_agree": False}
    assert one("trl_pairs", renamed, row) == Drop("wrong shape", detail="upp: Field required")


def test_trl_pairs_names_what_does_not_fit_the_form():
    two = [assistant("a"), user("b")]
    explicit = outcomes(
        "trl_pairs", TRL, {"chosen": "a", "rejected": "b"}, {"prompt": "Q", "chosen": two, "rejected": "b"}
    )
    assert [items[0].reason for items in explicit] == ["wrong shape", "no answer"]
    mixed = {"chosen": "a", "rejected": [user("Q"), assistant("b")]}
    assert one("trl_pairs", TRL | {"prompt": "implicit"}, mixed).reason == "wrong shape"


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "ends"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is", (" blue.", " green.")),
        ("Tell: good", "Tell: gold", "Tell: go", ("od", "ld")),
        ("yes", "no", "", ("yes", "no")),
        ("Same", "Same and more", "Same", ("", " and more")),
    ],
)
def test_trl_pairs_finds_the_prompt_that_two_texts_share_as_trl_does(chosen, rejected, prompt, ends):
    row = {"chosen": chosen, "rejected": rejected}
    item = one("trl_pairs", TRL | {"prompt": "implicit"}, row)
    assert (item.prompt, (item.chosen, item.rejected)) == ([user(prompt)], ends)


LLMEVAL = {"query": "Q", "response1": "one", "response2": "two", "human": "model2", "dataset": "shp"}


def test_llmeval2_orders_by_the_human_label_and_drops_ties():
    assert one("llmeval2", {"datasets": None}, LLMEVAL) == Preference([user("Q")], "two", "one")
    assert one("llmeval2", {"datasets": None}, LLMEVAL | {"human": "model1"}).chosen == "one"
    assert one("llmeval2", {"datasets": None}, LLMEVAL | {"human": "TIE"}) == Drop("tie")
    assert one("llmeval2", {"datasets": ["webgpt"]}, LLMEVAL) == Drop("dataset not chosen", detail="shp")
    assert one("llmeval2", {"datasets": None}, LLMEVAL | {"human": "model3"}).reason == "wrong shape"


def test_gpt4_comparison_takes_the_first_against_the_last():
    row = {"instruction": "I", "input": "x", "output": ["best", "middle", "worst"]}
    assert one("gpt4_comparison", {}, row) == Preference([user("I\n\nx")], "best", "worst")
    assert one("gpt4_comparison", {}, row | {"output": ["best"]}) == Drop("fewer than two answers", 1, 2)
