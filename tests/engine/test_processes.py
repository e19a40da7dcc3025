"""Jobs in processes of their own: in their order, and ended with the one that asked for them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mgdm_audio.engine.processes import run_jobs

SCRIPT = """
import os, signal
from mgdm_audio.engine.processes import run_jobs

if __name__ == "__main__":
    for name, result in run_jobs({"a": os.getpid, "b": os.getpid}, 2):
        assert result != os.getpid()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_at_a_time_they_run_here_and_in_order() -> None:
    jobs = dict.fromkeys("ba", os.getpid)
    assert list(run_jobs(jobs, 1)) == [("b", os.getpid()), ("a", os.getpid())]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals of POSIX")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text(SCRIPT)
    # The output ends when the last process that holds it does; the limit is for a failure alone.
    result = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, timeout=120)
    assert result.returncode == -signal.SIGKILL
