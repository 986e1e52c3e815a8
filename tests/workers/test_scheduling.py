"""The order of jobs, slow jobs, and how many run side by side."""

from __future__ import annotations

import pytest

from rest_channels.workers.scheduling import SLOW_SECONDS, Job, Line, Paces, next_width


def jobs(line, kinds):
    """Jobs put into `line` in this order: "q" for quick, "s" for slow, "c" for computing."""
    made = []
    for number, kind in enumerate(kinds):
        job = Job()
        job.kind, job.number, job.is_slow = kind, number, kind in "sc"
        line.append(job)
        made.append(job)
    return made


def begun(line):
    """The numbers of the jobs that may begin now, in their order."""
    numbers = []
    while (job := line.begin()) is not None:
        numbers.append(job.number)
    return numbers


# Lines


def test_the_first_comes_first():
    line = Line(10)
    jobs(line, "qsqqs")
    assert begun(line) == [0, 1, 2, 3, 4]


def test_at_most_so_many_are_begun():
    line = Line(2)
    first, *_ = jobs(line, "qqqq")
    assert begun(line) == [0, 1]
    line.end(first)
    assert begun(line) == [2]


@pytest.mark.parametrize("limit,slow", [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (32, 24)])
def test_slow_jobs_leave_a_quarter_free(limit, slow):
    line = Line(limit)
    jobs(line, "s" * limit + "q" * limit)
    numbers = begun(line)
    assert numbers == [*range(slow), *range(limit, 2 * limit - slow)]


def test_a_slow_job_that_ends_makes_room_for_a_slow_one():
    line = Line(4)
    first, *_ = jobs(line, "sssss")
    assert begun(line) == [0, 1, 2]
    line.end(first)
    assert begun(line) == [3]


def test_width_holds_back_quick_jobs_alone():
    line = Line(8, width=1)
    jobs(line, "qqss")
    assert begun(line) == [0, 2, 3]
    assert line.holds_quick
    line.width = 2
    assert begun(line) == [1]
    assert not line.holds_quick


def test_one_job_that_computes_runs_beside_those_that_wait():
    line = Line(8, computing=1, computes=lambda job: job.kind == "c")
    _, first, *_ = jobs(line, "sccsqc")
    assert begun(line) == [0, 1, 3, 4]
    line.end(first)
    assert begun(line) == [2]


def test_a_job_that_computes_keeps_its_place_when_it_is_taken_back():
    line = Line(8, computing=1, computes=lambda job: True)
    first, _ = jobs(line, "cc")
    line.take_back(line.begin())
    assert begun(line) == [0]
    line.end(first)
    assert begun(line) == [1]


def test_jobs_that_compute_leave_a_quarter_free():
    line = Line(4, computes=lambda job: True)
    jobs(line, "cccc")
    assert begun(line) == [0, 1, 2]


def test_a_job_found_slow_lets_a_quick_one_begin():
    line = Line(8, width=1)
    first, _ = jobs(line, "qq")
    assert begun(line) == [0]
    first.is_slow = True
    line.found_slow()
    assert begun(line) == [1]
    line.end(first)
    assert begun(line) == []


def test_what_is_taken_back_is_first_again():
    line = Line(8)
    jobs(line, "qs")
    for _ in "12":
        job = line.begin()
        line.take_back(job)
        assert (job.number, line.begun) == (0, 0)
    assert begun(line) == [0, 1]


def test_a_line_is_empty_when_all_have_ended():
    line = Line(8)
    (job,) = jobs(line, "q")
    assert (line.has_waiting, line.is_empty) == (True, False)
    line.begin()
    assert (line.has_waiting, line.is_empty) == (False, False)
    line.end(job)
    assert line.is_empty


# Paces


def test_a_kind_that_waits_long_is_slow_until_it_has_been_quick_for_a_while():
    paces = Paces()
    assert not paces.is_slow("report")
    paces.learn("report", took=1, computed=0.001, side_by_side=1)
    assert paces.is_slow("report") and not paces.is_slow("other")
    quick = 0
    while paces.is_slow("report"):
        paces.learn("report", took=0.001, computed=0.001, side_by_side=1)
        quick += 1
    assert 3 <= quick <= 20


def test_one_job_that_takes_long_by_chance_makes_no_kind_slow():
    paces = Paces()
    for _ in range(5):
        paces.learn("retrieve", took=0.06, computed=0.001, side_by_side=1)
        assert not paces.is_slow("retrieve")
        for _ in range(4):
            paces.learn("retrieve", took=0.001, computed=0.001, side_by_side=1)


def test_a_kind_that_is_slow_each_time_is_known_soon():
    paces = Paces()
    for _ in range(7):
        paces.learn("report", took=0.03, computed=0, side_by_side=1)
    assert paces.is_slow("report")


def test_a_kind_that_computes_long_is_slow():
    paces = Paces()
    paces.learn("export", took=0.2, computed=0.2, side_by_side=8)
    assert paces.is_slow("export")


def test_waiting_for_a_turn_to_compute_is_not_slow():
    paces = Paces()
    paces.learn("list", took=0.06, computed=0.003, side_by_side=20)
    assert not paces.is_slow("list")


def test_a_kind_called_slow_by_mistake_is_quick_again_among_many_that_compute():
    paces = Paces()
    paces.learn("list", took=0.6, computed=0.003, side_by_side=1)
    assert paces.is_slow("list")
    for _ in range(10):
        paces.learn("list", took=0.06, computed=0.003, side_by_side=20)
    assert not paces.is_slow("list")


def test_a_slow_kind_computes_if_it_hardly_waits():
    paces = Paces()
    paces.learn("export", took=0.2, computed=0.2, side_by_side=1)
    assert not paces.computes("export")
    paces.learn("export", took=0.22, computed=0.2, delayed=0.0, side_by_side=1)
    assert paces.computes("export") and not paces.computes("other")


def test_a_kind_that_waits_for_a_database_does_not_compute():
    paces = Paces()
    paces.learn("report", took=0.2, computed=0.1, delayed=0.0, side_by_side=1)
    assert paces.is_slow("report") and not paces.computes("report")


def test_a_kind_computes_although_other_processes_take_the_processor():
    paces = Paces()
    paces.learn("export", took=0.8, computed=0.1, delayed=0.7, side_by_side=1)
    assert paces.computes("export")
    paces.learn("export", took=1.6, computed=0.1, delayed=0.7, side_by_side=2)
    assert paces.computes("export")


def test_a_kind_that_computes_little_never_computes_however_busy_the_machine_is():
    paces = Paces()
    paces.learn("wait", took=0.5, computed=0.003, delayed=0.0, side_by_side=1)
    for _ in range(20):
        # Others lack a processor too, so it seems to wait for nothing.
        paces.learn("wait", took=0.03, computed=0.003, delayed=0.008, side_by_side=4)
        assert not paces.computes("wait")


def test_a_kind_that_begins_to_wait_computes_no_more():
    paces = Paces()
    paces.learn("export", took=0.1, computed=0.1, delayed=0.0, side_by_side=1)
    looks = 0
    while paces.computes("export"):
        paces.learn("export", took=1.0, computed=0.1, delayed=0.0, side_by_side=1)
        looks += 1
    assert looks < 5


def test_jobs_of_no_kind_teach_nothing():
    paces = Paces()
    paces.learn(None, took=10, computed=10, side_by_side=1)
    assert not paces.is_slow(None)


def test_quick_kinds_are_not_remembered():
    paces = Paces()
    paces.learn(1, took=0.06, computed=0, side_by_side=1)
    for _ in range(5):
        paces.learn(1, took=0.001, computed=0, side_by_side=1)
    for number in range(100):
        paces.learn(number, took=SLOW_SECONDS / 2, computed=0, side_by_side=1)
    assert vars(paces) == {"_of": {}}


# Widths


def test_while_the_process_waits_the_width_doubles_up_to_the_most():
    widths = [1]
    while widths[-1] < 20:
        widths.append(next_width(widths[-1], 0.1, 20))
    assert widths == [1, 2, 4, 8, 16, 20]


def test_near_the_end_it_grows_by_steps():
    assert [next_width(width, 0.7, 32) for width in (1, 4, 8, 16, 32)] == [2, 5, 9, 18, 32]


def test_while_the_process_computes_it_shrinks_to_one():
    widths = [32]
    while widths[-1] > 1:
        widths.append(next_width(widths[-1], 1.0, 32))
    assert widths[:4] == [32, 28, 25, 22] and len(widths) < 30
    assert next_width(1, 1.0, 32) == 1


def test_in_between_it_stays():
    assert next_width(5, 0.9, 32) == 5
