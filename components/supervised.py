"""Runs a step's process again in its pod where that may help: `python -m components.supervised -m MODULE ...`.

Kubeflow's own retries name no policy, and Argo's manifests there set `OnError`: a deleted pod is made anew, a container
that fails never is. So what a second try can mend is tried here: a process that a signal killed, or that ended with
exit code 75 (`EX_TEMPFAIL`), at most SEGOPS_RETRIES times, 30 s apart and doubling. A user's error is never retried.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from segops.errors import TRY_AGAIN
from segops.progress import say

RETRIES = "SEGOPS_RETRIES"
FIRST_PAUSE = "SEGOPS_RETRY_PAUSE_S"
_STOPS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Runs a command, and runs it again while that may help.

    Args:
        retries: how often it is started again at most.
        first_pause_s: before the first retry; each further pause is twice as long.
    """

    def __init__(self, retries: int, first_pause_s: float) -> None:
        self._retries, self._first_pause_s = retries, first_pause_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, command: list[str]) -> int:
        """Run the command; return the exit code of the last try, 128 + the signal's number where a signal ended it.

        SIGTERM and SIGINT are handed on, and nothing is started after them.
        """
        for number in _STOPS:
            signal.signal(number, self._stop)
        for retry in range(self._retries + 1):
            self._process = subprocess.Popen(command)  # noqa: S603 - the step's own command
            if self._stopped:  # between two tries
                self._process.terminate()
            code = self._process.wait()
            if self._stopped or not (code < 0 or code == TRY_AGAIN) or retry == self._retries:
                break
            pause_s = self._first_pause_s * 2**retry
            say(f"the step {_ending(code)}; it starts again in {pause_s:g} s (retry {retry + 1} of {self._retries})")
            self._pause(pause_s)
            if self._stopped:
                break
        return 128 - code if code < 0 else code

    def _stop(self, number: int, _: FrameType | None) -> None:
        """Hand a signal on to the step's process, and start nothing after it."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _pause(self, seconds: float) -> None:
        """Sleep, unless a signal ends the pause."""
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


def _ending(code: int) -> str:
    """Word how a try ended: by a signal, or with an exit code that another try may mend."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}: trying again may help"


def main() -> None:
    """Run this interpreter with the given arguments, supervised as the environment says."""
    retries, pause_s = int(os.environ.get(RETRIES, "0")), float(os.environ.get(FIRST_PAUSE, "30"))
    sys.exit(Supervisor(retries, pause_s).run([sys.executable, *sys.argv[1:]]))


if __name__ == "__main__":
    main()
