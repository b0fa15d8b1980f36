"""The forms in which a question of multiple choice is looked for."""

import pytest

from pipeline.items import Benchmark
from pipeline.questions import multiple_choice


def test_a_question_comes_alone_and_with_its_choices_bare_and_labelled():
    assert multiple_choice("Q", ["x", "y"], "AB", with_choices=True) == [
        Benchmark("Q"),
        Benchmark("Q\nx\ny"),
        Benchmark("Q\nA. x\nB. y"),
    ]


@pytest.mark.parametrize(("choices", "with_choices"), [(["x"], False), ([], True)])
def test_without_choices_there_is_the_question_alone(choices, with_choices):
    assert multiple_choice("Q", choices, "A"[: len(choices)], with_choices=with_choices) == [Benchmark("Q")]
