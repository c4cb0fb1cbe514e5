"""Joins the processes that torchrun started: which of them this is, how they meet, and how they leave together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from segops.errors import TryAgainError, UserError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PEERS = timedelta(minutes=10)
"""How long a process waits for another, to meet it or in a sum: then it ends, since the other is lost."""

_ASK_EVERY_S = 0.1
_START, _DONE = "start", "done"


class World(NamedTuple):
    """The processes that torchrun started together, of which this is one.

    Attributes:
        rank: this one's number among `size`.
        local_rank: its number among the `local_size` of its node.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> World | None:
        """Read what torchrun tells its processes; None where it didn't start this one."""
        if "TORCHELASTIC_RUN_ID" not in environment:
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(environment[name]) for name in names))


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process writes a training's files: the only one, or the first of torchrun's."""
    world = World.of(environment)
    return world is None or world.rank == 0


def require_width(devices: int, *, elastic: bool) -> None:
    """Raise UserError where torchrun started another number of processes than the training's key says."""
    world = World.of(os.environ)
    if world is None:
        return
    if world.size % world.local_size:
        raise UserError(f"torchrun: {world.size} processes, {world.local_size} on this node; give each node as many")
    if not elastic and world.size != devices:
        raise UserError(
            f"torchrun started {world.size} processes, runtime.devices is {devices}; set it to {world.size}, or "
            "runtime.elastic to true for a training that goes on at any width"
        )


@contextmanager
def together(device: str) -> Iterator[None]:
    """Join the processes that torchrun started while the block runs; alone, do nothing.

    No process leaves before the first is through with its block: where a killed one is started again, torchrun wants
    all nodes, and a node whose processes are done doesn't come back.

    Args:
        device: the kind that they compute on.

    Raises: TryAgainError where some aren't there within `PEERS`.
    """
    world = World.of(os.environ)
    if world is None:
        yield
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    shared, rank, size = next(rendezvous("env://", timeout=PEERS))
    store: Store = distributed.PrefixStore(meet(shared, rank, size), shared)  # type: ignore[attr-defined]
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PEERS)
    yield
    if rank == 0:
        store.set(_DONE, "")
    while not store.check([_DONE]):  # as long as the first works; SIGTERM and a lost store end this
        time.sleep(_ASK_EVERY_S)
    distributed.destroy_process_group()


def meet(store: Store, rank: int, size: int, *, patience: timedelta = PEERS) -> str:
    """Wait until all processes of this start are there; return a name for it that no earlier start had.

    torchrun (torch 2.13) keeps its store when it starts processes again, and a process that is ahead of another would
    read where that one's predecessor listened, or NCCL's id of then (pytorch issue 135712). Its count of restarts
    can't tell starts apart, since each node counts its own. So the first process names the start, the others answer
    with names of their own, and each goes on once the first has seen the name that it has now.

    Raises: TryAgainError where some aren't there in time.
    """
    own, deadline = uuid4().hex, time.monotonic() + patience.total_seconds()
    if rank == 0:
        store.set(_START, own)
    while time.monotonic() < deadline:  # short questions: within a long one SIGTERM would go unseen
        start = _read(store, _START)
        if rank == 0:
            answers = [_read(store, f"{own}/{other}") for other in range(1, size)]
            if all(answers):
                store.set(own, ",".join(answers))
                return own
        elif start:
            store.set(f"{start}/{rank}", own)
            if own in _read(store, start):
                return start
        time.sleep(_ASK_EVERY_S)
    raise TryAgainError(
        f"torchrun: process {rank} of {size} waited {patience.total_seconds():g} s for the others; see that all nodes "
        "are there, then run the command again"
    )


def _read(store: Store, key: str) -> str:
    """Return a value, or nothing where there is none yet."""
    return str(store.get(key).decode()) if store.check([key]) else ""
