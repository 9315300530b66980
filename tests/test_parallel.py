import os
import threading
import time

import pytest

from mlr.kernels import parallel
from mlr.kernels.parallel import parallel_for, parallel_for_all
from mlr.utils.threads import limited


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_every_item_is_done_once(threads, count):
    done = []
    with limited(threads):
        parallel_for(lambda begin, end: done.extend(range(begin, end)), count)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_several_loops_are_all_done(threads):
    done = []

    def kernel(begin, end, name):
        done.extend((name, item) for item in range(begin, end))

    counts = {"a": 3, "b": 0, "c": 40, "d": 1}
    with limited(threads):
        parallel_for_all([(kernel, count, (name,)) for name, count in counts.items()])
        parallel_for_all([])
    assert sorted(done) == [(name, n) for name, count in counts.items() for n in range(count)]


def test_workers_share_the_loop_with_the_caller():
    both = threading.Barrier(2)
    with limited(2):
        parallel_for(lambda begin, end: both.wait(timeout=60) if begin < 2 else None, 2)
    assert not both.broken


def test_a_worker_that_starts_late_is_not_waited_for(monkeypatch):
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

    monkeypatch.setattr(parallel, "_call_workers", ask)
    with limited(3):
        parallel_for(kernel, 2)
    assert done == ["late", "at work"]


def test_an_error_in_a_worker_reaches_the_caller():
    both = threading.Barrier(2)

    def kernel(begin, end):
        both.wait(timeout=60)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError

    with limited(2), pytest.raises(ZeroDivisionError):
        parallel_for(kernel, 2)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="there is one processor, or threads cannot be moved",
)
def test_workers_are_kept_off_the_processor_of_the_caller():
    both = threading.Barrier(2)
    affinities = {}

    def kernel(begin, end):
        if begin < 2:
            both.wait(timeout=60)
        affinities[threading.current_thread()] = os.sched_getaffinity(0)

    with limited(2):
        parallel_for(kernel, 2)
    processors = affinities.pop(threading.main_thread())
    (worker,) = affinities.values()
    assert processors == os.sched_getaffinity(0)
    assert worker < processors
    assert len(worker) == len(processors) - 1
