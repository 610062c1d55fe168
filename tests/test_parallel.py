import os
import signal
import time

import pandas as pd
import pytest

from gsclip.errors import GsclipError
from gsclip.parallel import AHEAD, ordered_map


def square(number):
    time.sleep(0.01 * (5 - number % 5))
    return number * number


def process(_):
    import torch

    return os.getpid(), torch.get_num_threads()


def fail(number):
    if number == 2:
        raise ValueError("two")
    return number


def test_results_come_in_order():
    assert list(ordered_map(square, range(20), workers=2)) == [number * number for number in range(20)]


def test_items_are_read_only_a_little_ahead():
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    results = ordered_map(square, items(), workers=2)
    next(results)
    assert len(read) <= 2 * AHEAD + 1
    results.close()


def test_work_is_done_elsewhere_by_one_thread_each():
    for pid, threads in ordered_map(process, range(3), workers=1):
        assert pid != os.getpid()
        assert threads == 1


def test_errors_reach_the_caller():
    with pytest.raises(ValueError, match="two"):
        list(ordered_map(fail, range(4), workers=1))


def die(item):
    number = item if isinstance(item, int) else item["number"]
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize(
    ("items", "name"),
    [
        (range(4), "2"),
        ([pd.Series({"name": f"nut/test/good/{number}", "number": number}) for number in range(4)], "nut/test/good/2"),
    ],
)
def test_a_process_that_dies_is_one_line_that_names_its_item(items, name):
    results = ordered_map(die, items, workers=1)
    with pytest.raises(GsclipError) as caught:
        list(results)
    assert str(caught.value).startswith(f"a worker process died at {name}, most likely for lack of memory; let fewer")
    assert "\n" not in str(caught.value)


def slow_or_die(number):
    time.sleep(0.5 if number == 2 else 5)
    return die(number)


def test_all_items_that_were_worked_on_are_named():
    with pytest.raises(GsclipError, match=r"a worker process died at 1 or 2, most likely"):
        list(ordered_map(slow_or_die, range(1, 4), workers=2))
