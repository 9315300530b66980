import os
import threading
import time

import pytest

from mlr.kernels import parallel
from mlr.kernels.parallel import share_out, share_out_all
from mlr.utils.threads import limited


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_every_item_is_done_once(threads, count):
    done = []
    with limited(threads):
        share_out(lambda begin, end: done.extend(range(begin, end)), count)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_several_loops_are_all_done(threads):
    done = []

    def kernel(begin, end, name):
        done.extend((name, item) for item in range(begin, end))

    counts = {"a": 3, "b": 0, "c": 40, "d": 1}
    with limited(threads):
        share_out_all([(kernel, count, (name,)) for name, count in counts.items()])
        share_out_all([])
    assert sorted(done) == [(name, n) for name, count in counts.items() for n in range(count)]


def test_helpers_work_besides_the_caller():
    both = threading.Barrier(2)
    with limited(2):
        share_out(lambda begin, end: both.wait(timeout=60) if begin < 2 else None, 2)
    assert not both.broken


def test_a_helper_that_comes_late_is_not_taken_for_one_at_work(monkeypatch):
    at_work, late, gone, done = threading.Event(), threading.Event(), threading.Event(), []

    def ask(call, times):
        def come_late():
            late.wait(timeout=60)
            call()
            done.append("late")
            gone.set()

        threading.Thread(target=call).start()
        threading.Thread(target=come_late).start()
        assert at_work.wait(timeout=60)

    def kernel(begin, end):
        if threading.current_thread() is not threading.main_thread():
            at_work.set()
            threading.Timer(0.05, late.set).start()  # when the caller has done all else, and waits
            gone.wait(timeout=60)
            time.sleep(0.3)
            done.append("at work")

    monkeypatch.setattr(parallel, "_ask", ask)
    with limited(3):
        share_out(kernel, 2)
    assert done == ["late", "at work"]


def test_what_goes_wrong_in_a_helper_reaches_the_caller():
    both = threading.Barrier(2)

    def kernel(begin, end):
        both.wait(timeout=60)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError

    with limited(2), pytest.raises(ZeroDivisionError):
        share_out(kernel, 2)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="there is one processor, or threads cannot be moved",
)
def test_helpers_are_kept_off_one_processor_that_of_the_caller():
    both = threading.Barrier(2)
    places = {}

    def kernel(begin, end):
        if begin < 2:
            both.wait(timeout=60)
        places[threading.current_thread()] = os.sched_getaffinity(0)

    with limited(2):
        share_out(kernel, 2)
    processors = places.pop(threading.main_thread())
    (helper,) = places.values()
    assert processors == os.sched_getaffinity(0)
    assert helper < processors
    assert len(helper) == len(processors) - 1
