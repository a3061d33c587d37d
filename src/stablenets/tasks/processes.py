"""Finish several runs side by side, each in a process of its own.

Two processes of one thread each are faster than one of two threads, for networks of this size.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from ..core.errors import StableNetsError, message
from .progress import Progress, prefixed
from .run_folder import Run

PATIENCE = 60  # seconds for a process to write its checkpoint after Ctrl-C


def finish_all(runs: Mapping[str, Run], progress: Progress) -> None:
    """Do what is missing in each run, by `stablenets classify --resume`; as many at a time as there are cores.

    Ctrl-C is passed on: each process writes its checkpoint before this returns.

    Raises:
        StableNetsError: a process failed; the others are stopped, and can be resumed.
        KeyboardInterrupt: once all processes have stopped.
    """
    left = {name: run for name, run in runs.items() if not run.done}
    if not left:
        return
    cores = os.cpu_count() or 1
    workers = min(len(left), cores)
    crew = _Crew(cores // workers)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(crew.finish, name, run, progress) for name, run in left.items()]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:  # all are over, or one has failed, or the user has interrupted
            crew.stop()
    for job in jobs:
        job.result()


class _Crew:
    """The processes at work."""

    def __init__(self, threads: int) -> None:
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        self.lock, self.stopped = threading.Lock(), False
        self.at_work: set[subprocess.Popen[str]] = set()

    def finish(self, name: str, run: Run, progress: Progress) -> None:
        words = [sys.executable, "-m", "stablenets", "classify", "--resume", str(run.path), "--progress", "json"]
        with self.lock:
            if self.stopped:
                return
            process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self.environment,
                start_new_session=True,  # Ctrl-C in the terminal reaches us only, and we pass it on once
            )
            self.at_work.add(process)
        complaints: list[str] = []
        assert process.stdout is not None and process.stderr is not None
        reader = threading.Thread(target=complaints.extend, args=(process.stderr,))
        reader.start()
        with process:
            for line in process.stdout:
                with contextlib.suppress(ValueError):  # what is not JSON is not for us
                    prefixed(progress, name)(*json.loads(line))
            reader.join()
        with self.lock:
            self.at_work.discard(process)
        if process.returncode and not self.stopped:
            last = next((line.strip() for line in reversed(complaints) if line.strip()), "")
            reason = last.removeprefix("error: ") or f"exit code {process.returncode}"
            given = f"{name} in {run.path} stopped ({reason})"
            raise StableNetsError(message(given, "a run that ends", "Remove the cause and run this again."))

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            left = list(self.at_work)
        for process in left:
            process.send_signal(signal.SIGINT)
        for process in left:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
