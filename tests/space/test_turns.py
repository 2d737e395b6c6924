"""Who is next."""

from __future__ import annotations

import threading
import time

from space.turns import FairLock, InTurns
from space.web.reader import Turns


def test_whoever_has_waited_longest_is_next():
    lock, order = FairLock(), []

    def long_task(name: str, parts: int):
        for _ in range(parts):
            with lock:
                time.sleep(0.005)
                order.append(name)

    crowd = threading.Thread(target=long_task, args=("crowd", 40))
    crowd.start()
    time.sleep(0.03)
    start = len(order)
    other = threading.Thread(target=long_task, args=("photo", 3))
    other.start(), other.join()
    assert order[start:].index("photo") <= 2 and len(order) - start <= 9  # every second turn is the photo's
    crowd.join()
    assert order.count("crowd") == 40


def test_runs_of_sessions_that_share_a_lock_do_not_overlap():
    running, most = [], []

    class Session:
        inputs = "x"

        def run(self, number):
            running.append(number)
            most.append(len(running))
            time.sleep(0.002)
            running.remove(number)
            return number * 2

    lock = FairLock()
    sessions = [InTurns(Session(), lock) for _ in range(2)]
    assert sessions[0].inputs == "x"
    threads = [
        threading.Thread(target=lambda s=s, n=n: [s.run(10 * n + i) for i in range(20)])
        for n, s in enumerate((*sessions, *sessions))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 80 and sessions[1].run(4) == 8


def test_one_task_of_each_owner_runs_at_a_time():
    turns, running, most = Turns(), {"a": 0, "b": 0}, {"a": 0, "b": 0}
    both = []

    def task(owner: str):
        with turns.of(owner):
            running[owner] += 1
            most[owner] = max(most[owner], running[owner])
            both.append(all(running.values()))
            time.sleep(0.02)
            running[owner] -= 1

    threads = [threading.Thread(target=task, args=(owner,)) for owner in "aaabbb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == {"a": 1, "b": 1} and any(both) and not turns._owners
