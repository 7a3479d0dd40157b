"""There is a Stop button only where a click is handled while the cell runs."""

import pytest

from llmlab.display.widget import clicks_wait


@pytest.mark.parametrize(
    ("kernel", "main_thread", "waits"),
    [
        ((6, 31), True, True),
        ((7, 3, 0), True, True),
        ((7, 4, 0), True, False),
        ((8, 0), True, False),
        ((7, 4), False, True),
        ((), True, False),
    ],
)
def test_there_is_a_button_only_where_a_click_is_handled_at_once(kernel, main_thread, waits):
    assert clicks_wait(kernel, main_thread) == waits
