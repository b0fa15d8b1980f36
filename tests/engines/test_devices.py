"""What part of the machine a worker gets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.devices import device_groups, places, thread_share, visible_devices
from pipeline.errors import UserError
from pipeline.execution import execution


@given(workers=st.integers(1, 9), size=st.integers(1, 4), spare=st.integers(0, 3))
def test_each_worker_has_its_own_gpus(workers, size, spare):
    devices = [f"GPU-{i}" for i in range(workers * size + spare)]
    groups = device_groups(devices, workers, size)
    assert [len(group) for group in groups] == [size] * workers
    assert len({name for group in groups for name in group}) == workers * size


def test_neighbours_share_a_copy_of_the_model():
    assert device_groups(["0", "1", "2", "3"], 2, 2) == [["0", "1"], ["2", "3"]]


def test_without_gpus_no_worker_has_any():
    assert device_groups([], 3, 2) == [[], [], []]


def test_too_few_gpus_are_told_with_the_number_that_fits():
    with pytest.raises(UserError, match=r"expected at most 2 with 5 GPUs, of which each takes 2.*found 3"):
        device_groups(["0", "1", "2", "3", "4"], 3, 2)


def test_the_gpus_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert visible_devices({}) == ["0", "1", "2", "3"]
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "3, MIG-7"}) == ["3", "MIG-7"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_devices({"CUDA_VISIBLE_DEVICES": ""}) == []


@given(threads=st.integers(1, 64), workers=st.integers(1, 99))
def test_threads_are_shared_evenly_and_each_worker_has_one(threads, workers):
    share = thread_share(threads, workers)
    assert share >= 1
    assert share * workers <= max(threads, workers)


def test_a_worker_learns_of_its_part_before_torch_is_loaded(own_state, monkeypatch):
    monkeypatch.setenv("PAIRMILL_THREADS", "6")
    monkeypatch.setattr("pipeline.engines.devices.visible_devices", lambda: ["4", "5", "6", "7"])
    execution.cache_clear()
    threads = {"PAIRMILL_THREADS": "3", "OMP_NUM_THREADS": "3"}
    assert places(2, on_device=False) == [threads, threads]
    assert places(2, on_device=True) == [
        threads | {"CUDA_VISIBLE_DEVICES": "4"},
        threads | {"CUDA_VISIBLE_DEVICES": "5"},
    ]
