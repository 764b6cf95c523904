"""The board's arithmetic, with a clock in the test's hand."""

import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console

from infinitetalk.cli.display import show, stage_table
from infinitetalk.core.stages import Stage
from infinitetalk.engine.board import Board, State, clock_text


class Hand:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += seconds


def unit(board: Board, hand: Hand, stage: Stage, seconds: float) -> None:
    with board.stage(stage):
        hand.pass_by(seconds)
        board.advance()


@pytest.fixture
def hand() -> Iterator[Hand]:
    yield Hand()


def test_time_left_follows_the_pace_of_each_stage(hand: Hand) -> None:
    board = Board(now=hand)
    board.plan({Stage.DENOISING: 10, Stage.LIP_SYNC: 2, Stage.ASSEMBLY: 2})
    assert board.left is None
    for _ in range(5):
        unit(board, hand, Stage.DENOISING, 2.0)
    assert board.left == pytest.approx(10.0)
    unit(board, hand, Stage.LIP_SYNC, 3.0)
    assert board.left == pytest.approx(13.0)
    assert board.fraction == pytest.approx(0.5)


def test_time_before_the_plan_is_not_expected_again(hand: Hand) -> None:
    board = Board(now=hand)
    with board.stage(Stage.FEATURE_EXTRACTION):
        hand.pass_by(100.0)
    board.plan({Stage.FEATURE_EXTRACTION: 3, Stage.DENOISING: 1})
    unit(board, hand, Stage.FEATURE_EXTRACTION, 1.0)
    unit(board, hand, Stage.DENOISING, 1.0)
    assert board.left == pytest.approx(2.0)


def test_a_note_is_seen_on_a_terminal_in_a_log_and_by_programs(hand: Hand, capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(now=hand)
    for text in ("[one] applied", "two skipped"):
        board.note(text)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(stage_table(board))
    assert "[one] applied\ntwo skipped" in "\n".join(line.rstrip() for line in console.export_text().splitlines())
    with show(as_json=False, quiet=False) as log:
        log.note("[one] applied")
    assert capsys.readouterr().err.count("[one] applied") == 1
    with show(as_json=True, quiet=False) as programs:
        programs.note("two skipped")
        programs.skip(Stage.INTERPOLATION)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "note", "text": "two skipped"}
    ]


def test_time_left_runs_down_within_a_step(hand: Hand) -> None:
    board = Board(now=hand)
    board.plan({Stage.DENOISING: 3})
    with board.stage(Stage.DENOISING):
        hand.pass_by(4.0)
        board.advance()
        hand.pass_by(1.0)
        assert board.left == pytest.approx(7.0)
        assert board.seconds(Stage.DENOISING) == pytest.approx(5.0)


def test_nested_stages_count_once(hand: Hand) -> None:
    board = Board(now=hand)
    with board.stage(Stage.LIP_SYNC):
        hand.pass_by(1.0)
        with board.stage(Stage.ASSEMBLY):
            hand.pass_by(2.0)
        hand.pass_by(4.0)
    assert board.rows[Stage.LIP_SYNC].seconds == pytest.approx(5.0)
    assert board.rows[Stage.ASSEMBLY].seconds == pytest.approx(2.0)


def test_states(hand: Hand) -> None:
    board = Board(now=hand)
    board.skip(Stage.INTERPOLATION)
    board.plan({Stage.DENOISING: 2})
    assert board.state(Stage.INTERPOLATION) is State.SKIPPED
    assert board.state(Stage.DENOISING) is State.WAITING
    with board.stage(Stage.DENOISING):
        assert board.state(Stage.DENOISING) is State.AT_WORK
        hand.pass_by(1.0)
        board.advance()
    assert board.state(Stage.DENOISING) is State.PAUSED
    unit(board, hand, Stage.DENOISING, 1.0)
    assert board.state(Stage.DENOISING) is State.DONE


def test_table_shows_all_seven_stages(hand: Hand) -> None:
    from rich.console import Console

    board = Board(now=hand)
    board.skip(Stage.INTERPOLATION)
    board.plan({Stage.DENOISING: 4, Stage.ASSEMBLY: 2})
    unit(board, hand, Stage.DENOISING, 2.0)
    console = Console(width=90, record=True, force_terminal=False, file=None, quiet=False)
    with console.capture() as caught:
        console.print(stage_table(board))
    text = caught.get()
    assert all(stage.value in text for stage in Stage)
    assert "skipped" in text
    assert "1/4" in text
    assert "window 1 of 2" in text
    assert "6.0 s left" in text


def test_json_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with show(as_json=True, quiet=False) as board:
        board.plan({Stage.DENOISING: 2})
        with board.stage(Stage.DENOISING):
            board.advance()
            board.advance()
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [(line["event"], line["done"], line["total"]) for line in lines] == [("progress", 1, 2), ("progress", 2, 2)]
    assert captured.err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with show(as_json=False, quiet=True) as board, board.stage(Stage.ASSEMBLY):
        board.advance()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_log_tells_windows(capsys: pytest.CaptureFixture[str]) -> None:
    with show(as_json=False, quiet=False) as board:
        board.skip(Stage.INTERPOLATION)
        board.plan({Stage.ASSEMBLY: 2})
        for _ in range(2):
            with board.stage(Stage.ASSEMBLY):
                board.advance()
        board.finish()
    text = capsys.readouterr().err
    assert "window 1 of 2 done" in text
    assert "window 2 of 2 done" in text
    assert text.count("assembly") == 2
    assert "skipped" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.96, "1:00"), (61, "1:01"), (3661, "1:01:01")])
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
