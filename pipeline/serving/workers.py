"""`fieldmark serve --workers N`: N whole servers on one port under uvicorn's supervisor.

A process that dies is replaced. Signals are uvicorn's: SIGTERM and Ctrl-C end all, SIGHUP replaces
all in turn, SIGTTIN adds one and SIGTTOU removes one.
"""

import logging
import os
import signal
import sys
import tempfile
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from socket import socket

from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.serving.counters import SHARED
from pipeline.serving.plan import Plan, Settings, drain, log_to_stderr, share

ASK_S = 0.2
log = logging.getLogger(__name__)


def supervise(plan: Plan, listening: socket) -> None:
    """Serve with several processes until a signal.

    Raises FieldmarkError where a process cannot start, or fails.
    """
    # multiprocessing starts this process itself, and then unblocks all signals
    resource_tracker.ensure_running()
    # Ctrl-C reaches all processes; the ones started from here on block it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with tempfile.TemporaryDirectory(prefix="fieldmark-serve-") as metrics:
        # for the new processes: prometheus_client reads it at import
        os.environ[SHARED] = metrics
        supervisor = Supervisor(Worker(replace(plan, cfg=share(plan.cfg))), [listening])
        supervisor.run()
    if codes := {process.exitcode for process in supervisor.processes} - {0, -signal.SIGTERM}:
        raise FieldmarkError(
            f"a process of the server ended with exit code {codes.pop()}; the reason is above"
        )


class Worker(Settings):
    """The settings of one process, which ends with its supervisor."""

    def load(self) -> None:
        """End the process where no valid model can be loaded: a new process would fail too."""
        log_to_stderr()
        parallel.end_with_parent(partial(os.kill, os.getpid(), signal.SIGTERM))
        try:
            super().load()
        except FieldmarkError as error:
            log.error("%s", error)
            sys.exit(STARTUP_FAILURE)
        print(f"Process {os.getpid()}: {self.description()}", flush=True)


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which makes its processes report as busy before they end."""

    config: Worker

    def init_processes(self) -> None:
        """Wait until all processes serve, or one fails.

        uvicorn's own check would wait for each process that still loads, and ignore signals.
        """
        super().init_processes()
        while not self.should_exit.is_set() and not all(
            process.is_ready(ASK_S) for process in self.processes
        ):
            self.handle_signals()
            if any(process.exitcode is not None for process in self.processes):
                self.should_exit.set()

    def handle_signals(self) -> None:
        """Also handle Ctrl-C, which is unblocked only here."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        """Also drop the gauges of a process that died."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def handle_term(self) -> None:
        """The first signal drains, a second one ends the wait."""
        drain(self.config.plan, self.should_exit.set)

    handle_int = handle_term
