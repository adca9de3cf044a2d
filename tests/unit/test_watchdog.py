"""Rules of the watchdog: what stalls is told, then ended; what has a reason to stand still is let be."""

import asyncio
import logging
import threading
import uuid

from livehook.watchdog import END_S, LOOK_S, STALLED_S, LoopWatch, Watch, Watchdog, log_stacks

LIMIT_S = 10.0


def looked(*looks):
    """What a watch says to the last of these looks: a time, and what waits."""
    watch = Watch(limit_s=LIMIT_S, every_s=100.0)
    return [watch.look(at, waiting) for at, waiting in looks][-1]


def test_what_stays_as_it_is_has_stalled_after_the_limit():
    """And not before."""
    assert {} == looked((0, {"a": 1}), (9.9, {"a": 1}))
    assert {"a": 10.0} == looked((0, {"a": 1}), (10, {"a": 1}))


def test_a_step_begins_the_time_anew():
    """However small it is."""
    assert {} == looked((0, {"a": 1}), (9, {"a": 2}), (12, {"a": 2}))


def test_what_had_nothing_to_do_meanwhile_has_not_stalled():
    """Two short waits are not a long one."""
    assert {} == looked((0, {"a": 1}), (5, {}), (11, {"a": 1}))


def test_one_that_moves_does_not_hide_one_that_does_not():
    """Each partition counts for itself."""
    assert {"b": 10.0} == looked((0, {"a": 1, "b": 1}), (10, {"a": 2, "b": 1}))


def test_a_process_that_was_frozen_has_not_stalled():
    """Nothing could move: the time between two looks tells."""
    watch = Watch(limit_s=LIMIT_S, every_s=1.0)
    assert [{}, {}, {}] == [watch.look(at, {"a": 1}) for at in (0, 1, 100)]


class Role:
    """What a watchdog looks at, and what it does."""

    def __init__(self, *, answers=True):
        self.ended: list[BaseException] = []
        self.is_answered = answers
        self.answer_s = 0.0
        self.now = 0.0
        self.watchdog = Watchdog(lambda: {"changes/3": 7}, self.answers, self.ended.append, clock=lambda: self.now)

    async def answers(self):
        self.now += self.answer_s
        return self.is_answered

    async def look(self, until_s):
        """Every LOOK_S from the beginning; whether it told the process to end."""
        while not (is_ended := await self.watchdog.look()) and self.now < until_s:
            self.now += LOOK_S
        return is_ended


async def test_a_stall_is_told_first_and_ended_later(caplog):
    """Time for a look at it, and for whoever asks /livez."""
    role = Role()
    with caplog.at_level(logging.ERROR):
        assert not await role.look(STALLED_S - LOOK_S)
        assert ("ok", "") == (role.watchdog.check, caplog.text)
    role = Role()
    with caplog.at_level(logging.ERROR):
        assert not await role.look(STALLED_S)
    assert "changes/3: no step for 60 s" == role.watchdog.check
    assert 1 == caplog.text.count("stalled: changes/3")
    assert [] == role.ended
    role = Role()
    assert await role.look(END_S)
    assert ["stalled, and ended to be started again: changes/3: no step for 90 s"] == [str(error) for error in role.ended]


async def test_a_slow_answer_is_no_reason_to_forget():
    """It may take seconds to learn that Kafka answers, at each look."""
    role = Role()
    role.answer_s = 5.0
    assert await role.look(2 * END_S)


async def test_a_watchdog_that_cannot_watch_ends_the_process(monkeypatch):
    """Else a role goes on as if somebody watched it."""
    monkeypatch.setattr("livehook.watchdog.LOOK_S", 0)
    ended: list[BaseException] = []

    def broken():
        raise RuntimeError("unexpected")

    async def answers():
        return True

    await Watchdog(broken, answers, ended.append).run()
    assert ["unexpected"] == [str(error) for error in ended]


async def test_without_kafka_nothing_has_to_move():
    """It is waited for, however long."""
    role = Role(answers=False)
    assert not await role.look(10 * END_S)
    assert ("ok", []) == (role.watchdog.check, role.ended)


async def test_the_log_shows_where_tasks_wait(caplog):
    """So that there is something to mend."""
    name = f"waits{uuid.uuid4().hex}"
    forever = asyncio.create_task(asyncio.Event().wait(), name=name)
    await asyncio.sleep(0)
    log_stacks("a test")
    forever.cancel()
    assert name in caplog.records[-1].tasks


async def test_a_loop_that_does_not_turn_ends_the_process():
    """Nothing inside it could."""
    ended: list[str] = []
    over = threading.Event()

    def end(why):
        ended.append(why)
        over.set()

    LoopWatch(asyncio.get_running_loop(), turn_s=0.01, end=end).start()
    assert over.wait(10)  # blocks the loop, as a wedged call does
    assert 1 == len(ended)
    assert "has not turned" in ended[0]


async def test_a_loop_that_turns_is_left_alone():
    """However slowly."""
    ended: list[str] = []
    watch = LoopWatch(asyncio.get_running_loop(), turn_s=0.005, end=ended.append)
    watch.start()
    for _ in range(30):
        await asyncio.sleep(0.01)
    watch.stop()
    assert [] == ended
