"""Where engines run: in this process, in several on this machine, or on a Ray cluster."""

from pipeline.engines.local_pool import local_pool
from pipeline.execution import execution
from pipeline.filling import Launch, compute_into


def launcher() -> Launch:
    """The launcher of the execution settings."""
    settings = execution()
    if settings.launcher == "ray":
        from pipeline.engines.ray_launcher import ray_pool

        return ray_pool
    return local_pool if settings.workers > 1 else compute_into
