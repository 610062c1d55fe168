import gc
import os
import signal
import threading
import time
import weakref

import pandas as pd
import pytest
import torch

from gsclip import parallel
from gsclip.errors import GsclipError
from gsclip.parallel import AHEAD, beside, ordered_map, side_by_side


def square(number):
    time.sleep(0.01 * (5 - number % 5))
    return number * number


class Item:
    """Can be pickled, and watched."""

    def __init__(self, number):
        self.number = number


def number_of(item):
    return item.number


def process(_):
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


@pytest.fixture
def threads():
    """Sets torch's number of threads, until the test is over."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_calls_side_by_side_run_at_once_with_one_thread_each(threads):
    threads(2)
    meeting = threading.Barrier(2, timeout=20)

    def meet(number):
        meeting.wait()
        return number, torch.get_num_threads(), threading.get_ident()

    results = side_by_side(meet, range(4))
    assert [number for number, _, _ in results] == [0, 1, 2, 3]
    assert {count for _, count, _ in results} == {1}
    assert threading.get_ident() not in {thread for _, _, thread in results}


def test_threads_to_come_have_as_many_threads_of_torch_as_before(threads):
    threads(3)
    for _ in range(30):
        parallel._started_lanes.cache_clear()
        assert side_by_side(lambda _: torch.get_num_threads(), range(3)) == [1, 1, 1]
        seen = []
        other = threading.Thread(target=lambda seen=seen: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert seen == [3]
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("few", [0, 5])
def test_no_item_is_kept_once_its_result_was_given(few):
    items = [Item(number) for number in range(5)]
    alive = [weakref.ref(item) for item in items]
    results = ordered_map(number_of, (items.pop(0) for _ in range(5)), workers=1, few=few)
    next(results)
    assert next(results) == 1
    gc.collect()
    assert alive[0]() is None
    assert list(results) == [2, 3, 4]
    assert not any(item() for item in alive)


def test_after_an_error_no_call_is_begun(threads):
    threads(2)
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.05)
        return fail(number + 2)

    with pytest.raises(ValueError, match="two"):
        side_by_side(work, range(40))
    assert len(begun) < 10


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_beside_comes_with_the_result(threads, count):
    threads(count)
    failed = beside(fail, 2)
    assert beside(fail, 3).result() == 3
    with pytest.raises(ValueError, match="two"):
        failed.result()


def test_with_one_thread_and_within_a_call_beside_it_is_done_in_place(threads):
    threads(1)
    assert beside(threading.get_ident).result() == threading.get_ident()
    threads(2)
    outer, inner = beside(lambda: (threading.get_ident(), beside(threading.get_ident).result())).result()
    assert outer == inner != threading.get_ident()
