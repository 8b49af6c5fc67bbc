"""`fieldmark serve --workers N`: uvicorn's supervisor over N processes, each a whole server that
accepts from the same port.

One that dies is replaced. Signals are uvicorn's: SIGTERM and Ctrl-C end, SIGHUP replaces all in
turn, SIGTTIN and SIGTTOU add one and take one away.
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
    """Serve with several processes until a signal; raises FieldmarkError where a process cannot
    start or end in order.
    """
    # multiprocessing's own process, at whose start it lets all signals in
    resource_tracker.ensure_running()
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # Ctrl-C reaches all processes; those to come never see it
    with tempfile.TemporaryDirectory(prefix="fieldmark-serve-") as figures:
        os.environ[SHARED] = (
            figures  # for the processes to come: prometheus_client looks when it is imported
        )
        supervisor = Supervisor(Worker(replace(plan, cfg=share(plan.cfg))), [listening])
        supervisor.run()
    if codes := {process.exitcode for process in supervisor.processes} - {0, -signal.SIGTERM}:
        raise FieldmarkError(
            f"a process of the server ended with {codes.pop()}; the reason stands above"
        )


class Worker(Settings):
    """The settings of one process, which does not outlive its supervisor."""

    def load(self) -> None:
        """Ends the process where there is no sound model: another one would do no better."""
        log_to_stderr()
        parallel.end_with_parent(partial(os.kill, os.getpid(), signal.SIGTERM))
        try:
            super().load()
        except FieldmarkError as error:
            log.error("%s", error)
            sys.exit(STARTUP_FAILURE)
        print(f"Process {os.getpid()}: {self.says()}", flush=True)


class Supervisor(Multiprocess):
    """uvicorn's, which tells its processes to look busy for a while before they end."""

    config: Worker

    def init_processes(self) -> None:
        """Until all serve, or one cannot; uvicorn's own look would wait for each that is still
        loading, deaf to signals.
        """
        super().init_processes()
        while not self.should_exit.is_set() and not all(
            process.is_ready(ASK_S) for process in self.processes
        ):
            self.handle_signals()
            if any(process.exitcode is not None for process in self.processes):
                self.should_exit.set()

    def handle_signals(self) -> None:
        """Ctrl-C, too, which is let in only here."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        """The gauges of a process that died count no more."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def handle_term(self) -> None:
        """The first signal drains, a second one ends at once what is not under way."""
        drain(self.config.plan, self.should_exit.set)

    handle_int = handle_term
