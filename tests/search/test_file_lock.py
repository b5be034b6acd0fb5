"""A lock is held by one at a time, and by nobody who is dead."""

import subprocess
import sys
import threading
import time

from mnsa.search.file_lock import file_lock

HOLD = "import sys, time\nfrom pathlib import Path\nfrom mnsa.search.file_lock import file_lock\n"
HOLD += "with file_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_the_second_waits_until_the_first_is_done_and_says_so_once(tmp_path, capsys):
    file, order = tmp_path / "a.lock", []

    def second():
        with file_lock(file, waiting="waiting for the first"):
            order.append("second")

    with file_lock(file):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.7)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert capsys.readouterr().out == "waiting for the first\n"


def test_a_lock_whose_holder_was_killed_is_free(tmp_path):
    file = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        with file_lock(file):
            pass


def test_a_lock_is_free_after_an_error(tmp_path):
    for _ in range(2):
        try:
            with file_lock(tmp_path / "a.lock"):
                raise ValueError
        except ValueError:
            pass
