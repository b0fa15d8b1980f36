"""A process of `launching` that shards its model on a CPU, over gloo, as others do on GPUs.

accelerate itself shards only where it sees accelerators; all that is told here is that it sees them.
"""

import os

import torch
from accelerate.state import DistributedType, PartialState

from pipeline.engines import launching

if __name__ == "__main__":
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    launching.main()
