"""What processes of `launching` do in tests: others must be able to import it."""

import os
import signal

import polars as pl
import torch


def tell(rows: pl.DataFrame, folder: str) -> None:
    """Each process leaves a file with its rank and what it sees."""
    world = torch.distributed.get_world_size()
    with open(f"{folder}/{os.environ['RANK']}", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{world} {rows['n'].sum()}")


def raise_in_second(_: pl.DataFrame) -> None:
    """The second process fails, and the first waits for it."""
    if os.environ["RANK"] == "1":
        raise ValueError("the disk is full\nand so on")
    torch.distributed.barrier()


def kill_second(_: pl.DataFrame) -> None:
    """The second process is killed, and the first waits for it."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()
