"""On a Ray cluster: the bytes of a single process, whatever dies, and nothing stored is computed again."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.engines import ray_launcher
from pipeline.engines.ray_launcher import ray_pool, variables
from pipeline.engines.work import SampleWork
from pipeline.errors import UserError
from pipeline.execution import Execution, execution
from pipeline.filling import compute_into, fill, open_store
from pipeline.models import SampleRequest
from tests.ray_cluster import MARK, NotedWork, gone, marked, ray_cluster
from tests.smoke_project import ROOT, environment

SAMPLES = 4
ASKS = [SampleRequest((prompt, 7, 9), 1.0, seed) for prompt in range(24) for seed in range(SAMPLES)]
SHARD = 4

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves sockets and processes open


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU; processes there find the tests and their work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv(MARK, mark := f"cluster-{os.getpid()}")
        with ray_cluster() as found:
            assert marked(mark)
            yield found
    assert gone(mark) == []


@pytest.fixture
def settings(own_state, monkeypatch):
    """Sets execution settings; shards are small, so that little is lost with a worker."""

    def put(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PAIRMILL_{name.upper()}", str(value))
        execution.cache_clear()

    put(shard_rows=SHARD)
    return put


@pytest.fixture
def noted(tiny_model, tmp_path):
    """Makes work on the fake engine."""
    return lambda **more: NotedWork(tiny_model, "fake", "float32", 16, tmp_path / "notes", **more)


def alone(work, settings) -> pl.DataFrame:
    """What a single process makes of the asks, with a store of its own."""
    settings(store="alone")
    found = fill(SampleWork(work.model, work.engine, work.dtype, work.max_new_tokens), ASKS, compute_into)
    settings(store="shared")
    return found


@pytest.mark.slow
def test_nodes_share_the_work_and_each_prompt_stays_with_one_of_them(cluster, settings, noted, caplog):
    work = noted(seconds=0.05)
    expected = alone(work, settings)
    # More workers than there is room for: it goes on with those that it gets.
    settings(ray_address=cluster.address, workers=3)
    assert_frame_equal(fill(work, ASKS, ray_pool), expected)
    assert "room for 2 of 3 workers" in caplog.text
    rows = work.noted()
    assert Counter(key for key, *_ in rows) == Counter(work.keys(ASKS))
    assert len({node for _, _, node, _ in rows}) == 2
    assert len({(prompt, node) for _, prompt, node, _ in rows}) == len(ASKS) / SAMPLES


@pytest.mark.slow
def test_a_node_that_is_killed_midway_costs_what_it_had_not_stored(cluster, settings, noted):
    victim = cluster.add_node(num_cpus=1)
    work = noted(seconds=0.1, stays=(victim.node_id, SHARD + 2))
    expected, keys = alone(work, settings), work.keys(ASKS)
    stored, before = set(), []

    def kill() -> None:
        while work.rows_of(victim.node_id) < SHARD + 2:
            time.sleep(0.02)
        cluster.remove_node(victim, allow_graceful=False)
        stored.update(open_store().values(work.cells, pl.Series("key", keys))["key"])
        before.extend(work.noted())

    killer = threading.Thread(target=kill)
    killer.start()
    settings(ray_address=cluster.address, workers=3)
    assert_frame_equal(fill(work, ASKS, ray_pool), expected)
    killer.join()
    rows = [key for key, *_ in work.noted()]
    assert len(stored) >= SHARD
    assert not stored & set(rows[len(before) :])
    assert set(rows) == set(keys)
    assert len(rows) - len(keys) == 2
    # Nothing is left to compute, so there is nobody to ask.
    assert_frame_equal(fill(work, ASKS, pytest.fail), expected)


@pytest.mark.slow
def test_a_worker_gets_the_gpus_that_share_one_copy_of_the_model(cluster, settings, noted):
    node = cluster.add_node(num_cpus=1, num_gpus=2)
    settings(ray_address=cluster.address, workers=2, tensor_parallel=2)
    work = noted(device=True)
    fill(work, ASKS[:8], ray_pool)
    cluster.remove_node(node)
    assert {(place, devices) for _, _, place, devices in work.noted()} == {(node.node_id, "0,1")}


@pytest.mark.slow
def test_a_mistake_that_a_worker_finds_ends_the_run_with_its_line(cluster, settings, noted):
    settings(ray_address=cluster.address, workers=2, shard_rows=77)
    with pytest.raises(UserError, match=r"^expected shards of 77 rows$"):
        fill(noted(fails="starting"), ASKS, ray_pool)


@pytest.mark.slow
def test_rows_over_which_workers_keep_dying_end_the_run(cluster, settings, noted):
    settings(ray_address=cluster.address)
    work = noted(fails="killed")
    with pytest.raises(UserError, match=rf"found {ray_launcher.LOSSES} lost over the same 4 rows.*is stored"):
        fill(work, ASKS[:8], ray_pool)
    assert len(work.noted()) == ray_launcher.LOSSES


@pytest.mark.slow
def test_a_cluster_without_room_for_a_worker_is_named(cluster, settings, noted, monkeypatch):
    monkeypatch.setattr(ray_launcher, "PATIENCE", 1.0)
    settings(ray_address=cluster.address, threads=5)
    with pytest.raises(UserError, match=r"room for a worker with 5 CPU within.*it has 2 CPU, 0 GPU in all"):
        fill(noted(), ASKS, ray_pool)


RUN = """
from pathlib import Path
from pipeline.engines.launchers import launcher
from pipeline.filling import fill
from tests.engines.test_ray_launcher import ASKS, real
fill(real(Path("model")), ASKS[:12], launcher()).write_parquet("ray.parquet")
"""


def real(model: Path) -> SampleWork:
    return SampleWork(model, "transformers", "float32", 4)


@pytest.mark.slow
def test_a_cluster_for_the_run_gives_the_same_bytes_and_leaves_no_process(tiny_model, settings, tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "model").symlink_to(tiny_model)
    mark = f"run-{os.getpid()}"
    own = {"PYTHONPATH": str(ROOT), MARK: mark, "PAIRMILL_LAUNCHER": "ray", "PAIRMILL_STORE": "shared"}
    words = [sys.executable, "-W", "error", "-c", RUN]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment() | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert gone(mark) == []
    settings(store="alone")
    fill(real(tiny_model), ASKS[:12], compute_into).write_parquet("alone.parquet")
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()


def test_a_missing_ray_is_told_with_the_command_that_installs_it(settings, noted, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"expected the package ray .* install it with: make setup"):
        fill(noted(), ASKS, ray_pool)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "somewhere"])
def test_an_address_without_a_cluster_is_told_at_once(settings, noted, address):
    settings(ray_address=address)
    with pytest.raises(UserError, match=f"expected a Ray cluster at {address}, found none"):
        fill(noted(), ASKS, ray_pool)


def test_the_settings_of_the_run_reach_a_worker_whole(own_state, monkeypatch):
    own = Execution(shard_rows=3, vllm={"max_num_seqs": 8}, store="s3://bucket/store", launcher="ray")
    for name, value in variables(own).items():
        monkeypatch.setenv(name, value)
    execution.cache_clear()
    assert execution() == own


def test_a_worker_asks_for_gpus_only_where_there_are_some_and_the_engine_takes_them():
    own, many = Execution(tensor_parallel=2, threads=3), {"CPU": 8.0, "GPU": 8.0}
    assert ray_launcher.needs(many, True, own) == {"num_cpus": 0, "num_gpus": 2}
    assert ray_launcher.needs(many, False, own) == {"num_cpus": 3, "num_gpus": 0}
    assert ray_launcher.needs({"CPU": 8.0}, True, own) == {"num_cpus": 3, "num_gpus": 0}
