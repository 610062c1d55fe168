import os
import time

import pytest

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
