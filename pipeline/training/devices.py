"""One training on several devices and nodes, by FIELDMARK_DEVICES and FIELDMARK_NODES.

Lightning's strategy ddp runs it in one process for each device. This process is the first of its
node; the others do the same work on their part of each batch, and end with it. See dealt for what
makes the result that of one process.
"""

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed

from pipeline import FieldmarkError
from pipeline.compute import parallel

HERE = "127.0.0.1"
SEED = "PL_GLOBAL_SEED"  # from which Lightning would begin the random numbers of ddp anew


@dataclass(frozen=True)
class Place:
    """Which process of a training it is; `local` counts the processes of its node."""

    rank: int = 0
    world: int = 1
    local: int = 1
    address: str = HERE
    port: int = 0

    @property
    def nodes(self) -> int:
        return self.world // self.local


ALONE = Place()


class Cluster(LightningEnvironment):
    """Tells Lightning where the process stands. It starts none, and reads nothing that a cluster's
    variables say of several tasks.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        return self.place.world > 1

    @property
    def main_address(self) -> str:
        return self.place.address

    @property
    def main_port(self) -> int:
        return self.place.port

    def world_size(self) -> int:
        return self.place.world

    def global_rank(self) -> int:
        return self.place.rank

    def local_rank(self) -> int:
        return self.place.rank % self.place.local

    def node_rank(self) -> int:
        return self.place.rank // self.place.local


@contextmanager
def together(work: Callable[[Place], object]) -> Iterator[Place]:
    """Start the other processes of this node with the same work, and yield the place of this one,
    which has to do it, too. They end with the block.

    Raises FieldmarkError where an environment variable is wrong.
    """
    mine = _asked()
    if mine.world == 1:
        yield mine
        return
    before, threads = dict(os.environ), torch.get_num_threads()
    share = max(1, parallel.N_CORES // mine.local)
    surroundings = (_ours(), str(Path.cwd()), share)
    # Pickled here: multiprocessing would let all processes share the weights.
    given = pickle.dumps((work, torch.get_rng_state()))
    context = get_context("forkserver")
    others = [
        context.Process(
            target=_serve,
            args=(given, replace(mine, rank=mine.rank + n), *surroundings),
            daemon=False,
        )
        for n in range(1, mine.local)
    ]
    try:
        for process in others:
            process.start()
        torch.set_num_threads(share)
        os.environ.pop(SEED, None)
        yield mine
    finally:
        torch.set_num_threads(threads)
        if distributed.is_initialized():
            with suppress(RuntimeError):  # of a training that failed, whose others have ended
                distributed.destroy_process_group()
        for process in others:
            process.kill()
            process.join()
        os.environ.clear()  # Lightning notes address and port there
        os.environ.update(before)


def _serve(
    given: bytes, place: Place, environment: dict[str, str], folder: str, threads: int
) -> None:
    parallel.end_with_parent(partial(os._exit, 1))
    os.environ.update(environment)
    os.environ.pop(SEED, None)
    os.chdir(folder)
    torch.set_num_threads(threads)
    work, random = pickle.loads(given)
    torch.set_rng_state(random)
    work(place)


def _ours() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("FIELDMARK")}


def _asked() -> Place:
    local, nodes = _number("FIELDMARK_DEVICES", 1), _number("FIELDMARK_NODES", 1)
    if nodes == 1:
        return ALONE if local == 1 else Place(0, local, local, HERE, _free_port())
    try:
        address, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 29500)
        node = int(os.environ["NODE_RANK"])
    except (KeyError, ValueError) as error:
        raise FieldmarkError(
            f"FIELDMARK_NODES is {nodes}: on each node, set MASTER_ADDR to the address of the first, "
            f"and NODE_RANK to its number, from 0"
        ) from error
    return Place(node * local, nodes * local, local, address, port)


def _number(name: str, default: int) -> int:
    setting = os.environ.get(name) or str(default)
    with suppress(ValueError):
        if int(setting) > 0:
            return int(setting)
    raise FieldmarkError(f"{name} is {setting!r}; give a number above 0")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HERE, 0))
        port: int = free.getsockname()[1]
    return port


def strategy(place: Place) -> dict[str, Any]:
    """What Lightning's Trainer is told about it."""
    return {
        "devices": place.local,
        "num_nodes": place.nodes,
        "strategy": "ddp" if place.world > 1 else "auto",
        "plugins": Cluster(place),
        "use_distributed_sampler": False,  # SeededOrder deals batches without padding them
    }
