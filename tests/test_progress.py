"""Progress of long steps off a terminal: few lines, each with the time that is left."""

import logging

import pytest

from pipeline.progress import counted


@pytest.fixture
def lines(caplog):
    """The lines of a step of so many rows, one row every so many seconds."""

    def run(rows: int, seconds: float) -> list[str]:
        now = 0.0
        with caplog.at_level(logging.INFO), counted("sample (fake)", rows, clock=lambda: now) as advance:
            for _ in range(rows):
                now += seconds
                advance(1)
        return [record.getMessage() for record in caplog.records]

    return run


def test_a_short_step_says_nothing(lines):
    assert lines(59, 1.0) == []


def test_a_line_says_what_is_done_how_fast_and_what_is_left(lines):
    assert lines(80, 1.0) == ["sample (fake): 60 of 80 rows, 1 rows/s, 00:20 left"]


def test_a_day_is_a_screen_of_lines(lines):
    assert len(lines(2880, 30.0)) <= 19


def test_rows_that_were_lost_are_taken_back(caplog):
    now = 0.0
    with caplog.at_level(logging.INFO), counted("score (fake)", 100, clock=lambda: now) as advance:
        advance(40)
        now = 60.0
        advance(-10)
    assert "30 of 100 rows" in caplog.text
    assert "02:20 left" in caplog.text


def test_a_step_that_has_done_nothing_yet_can_be_told(caplog):
    now = 0.0
    with caplog.at_level(logging.INFO), counted("score (fake)", 100, clock=lambda: now) as advance:
        now = 61.0
        advance(0)
    assert "0 of 100 rows" in caplog.text
