import json
import subprocess
import sys

import polars as pl
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from pipeline import tables
from pipeline.engines.tiny_models import tiny_random
from pipeline.errors import UserError
from pipeline.publishing import gather, write_folder, write_shards
from pipeline.schemas import MIX
from tests import hub_server, published_project

LOAD = """
import json, sys
from datasets import load_dataset
loaded = load_dataset(*sys.argv[1:])
json.dump({split: rows.to_list() for split, rows in loaded.items()}, sys.stdout)
"""

TRAIN = """
import sys
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

repo, config, model, out = sys.argv[1:]
rows = load_dataset(repo, config, split="train")
for trainer, settings in ((DPOTrainer, DPOConfig), (RewardTrainer, RewardConfig)):
    args = settings(
        output_dir=f"{out}/{trainer.__name__}", max_steps=1, per_device_train_batch_size=2, use_cpu=True,
        bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
    )
    run = trainer(model=model, args=args, train_dataset=rows)
    run.train()
    assert run.state.global_step == 1
    assert len(run.train_dataset) == len(rows), "the trainer dropped rows"
"""


@pytest.fixture
def project(tmp_path, tmp_path_factory, monkeypatch):
    folder = published_project.copy_of_project(tmp_path_factory, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub(tmp_path):
    with hub_server.hub_server(tmp_path) as server:
        yield server


def publish(project, hub, *words):
    return published_project.run(
        project, sys.executable, "-m", "pipeline.cli", "publish", *words, env=hub.env
    )


def python(hub, program, *words):
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=hub.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(path):
    return json.loads(json.dumps(tables.read(MIX, path).to_dicts()))


def files_below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_published_mix_loads_as_it_was_made(project, hub):
    done = publish(project, hub, "mixes/demo", "--repo", "org/demo")
    assert done.returncode == 0, done.stderr
    assert "10 pairs in org/demo" in done.stdout
    loaded = json.loads(python(hub, LOAD, "org/demo", "demo"))
    folder = project / "data" / "mixes" / "demo"
    assert loaded == {split: rows_of(folder / f"{split}.parquet") for split in ("train", "test")}


def test_publishing_is_one_commit_and_again_is_none(project, hub):
    publish(project, hub, "mixes/demo", "--repo", "org/demo")
    repo = hub.repo("org/demo", "datasets")
    assert [commit.title for commit in repo.commits] == ["initial commit", "Publish mixes/demo"]
    assert publish(project, hub, "mixes/demo", "--repo", "org/demo").returncode == 0
    assert len(repo.commits) == 2


def test_files_of_an_earlier_publication_go_with_the_same_commit(project, hub):
    publish(project, hub, "mixes/demo", "--repo", "org/demo")
    hub.add("org/demo", {"demo/train-00001-of-00002.parquet": b"old", ".gitattributes": b"kept"}, "datasets")
    assert publish(project, hub, "mixes/demo", "--repo", "org/demo").returncode == 0
    tree = hub.repo("org/demo", "datasets").commits[-1].tree
    shards = [f"demo/{split}-00000-of-00001.parquet" for split in ("test", "train")]
    assert sorted(tree) == [".gitattributes", "README.md", *shards, "facts.json"]


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"data.csv": b"x"}, "did not publish"),
        ({"facts.json": b"not json"}, "did not publish"),
        ({"facts.json": b'{"target": "release"}'}, "the target release"),
    ],
)
def test_a_repository_of_something_else_is_left_alone(project, hub, held, found):
    hub.add("org/demo", held, "datasets")
    done = publish(project, hub, "mixes/demo", "--repo", "org/demo")
    assert done.returncode == 2
    assert found in done.stderr
    assert hub.repo("org/demo", "datasets").commits[-1].tree == held


@pytest.mark.parametrize(("words", "private"), [((), True), (("--public",), False)])
def test_a_new_repository_is_private_unless_asked(project, hub, monkeypatch, words, private):
    asked = []

    def create(handler):
        asked.append(json.loads(handler.body))
        return known["/api/repos/create"](handler)

    known = {pattern: action for _, pattern, action in hub_server.ROUTES}
    routes = [(m, p, create if p == "/api/repos/create" else action) for m, p, action in hub_server.ROUTES]
    monkeypatch.setattr(hub_server, "ROUTES", routes)
    assert publish(project, hub, "mixes/demo", "--repo", "org/demo", *words).returncode == 0
    (body,) = asked
    assert (body["type"], body.get("visibility") == "private" or body.get("private", False)) == (
        "dataset",
        private,
    )


def test_a_hub_that_does_not_answer_is_one_line(project, hub):
    hub.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = publish(project, hub, "mixes/demo", "--repo", "org/demo")
    assert done.returncode == 2
    assert done.stderr.startswith("error: org/demo: expected http://127.0.0.1:9 to take the data set")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_trl_trains_on_what_was_published_as_it_is(project, hub, tmp_path):
    publish(project, hub, "mixes/demo", "--repo", "org/demo")
    publish(project, hub, "release", "--repo", "org/release")
    tiny_random(tmp_path / "tiny")
    for repo, config in (("org/demo", "demo"), ("org/release", "all")):
        python(hub, TRAIN, repo, config, str(tmp_path / "tiny"), str(tmp_path / "out"))


def test_a_release_is_one_config_per_iteration_and_one_of_all(project, hub):
    publish(project, hub, "release", "--repo", "org/release")
    loaded = {
        config: json.loads(python(hub, LOAD, "org/release", config))["train"]
        for config in ("all", "t1", "t2")
    }
    assert loaded["all"] == loaded["t1"] + loaded["t2"]
    assert {row["iteration"] for row in loaded["t2"]} == {"t2"}


def test_an_iteration_says_where_its_prompts_come_from(project, tmp_path):
    write_folder(gather("iterations/t2"), "org/t2", tmp_path / "out", accepted=False)
    rows = pl.read_parquet(tmp_path / "out" / "t2" / "*.parquet")
    assert rows.height == 6
    assert set(rows["source"]) == {"alpha"}
    assert sorted(rows["row"]) == [1, 3, 5, 7, 9, 11]


def test_facts_agree_with_the_ledgers_and_the_rows(project, tmp_path):
    write_folder(gather("mixes/odd"), "org/odd", tmp_path / "out", accepted=False)
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    accounts = {account["stage"]: account for account in facts["accounts"]}
    assert set(accounts) == {"standardize@alpha", "standardize@gamma", "mix@odd"}
    assert accounts["mix@odd"]["dropped"] == {"exact duplicate": 2, "near duplicate": 2}
    assert accounts["mix@odd"]["kept"] == facts["every"]["rows"] == 20
    assert {source: part["rows"] for source, part in facts["by_source"].items()} == {"alpha": 10, "gamma": 10}
    assert facts["every"]["longer_wins_chars"] == 0.8
    card = DatasetCard((tmp_path / "out" / "README.md").read_text())
    assert card.data.license == "other"
    assert "Duplicates removed: 4." in card.text


def test_rows_that_may_not_be_handed_on_need_consent(project, tmp_path):
    with pytest.raises(UserError, match=r"beta \(CC-BY-NC-4.0\).*--accept-licences"):
        write_folder(gather("mixes/tainted"), "org/x", tmp_path / "out", accepted=False)
    assert not (tmp_path / "out").exists()
    facts = write_folder(gather("mixes/tainted"), "org/x", tmp_path / "out", accepted=True)
    assert facts.terms["beta"].redistributable is False


def test_the_same_target_gives_the_same_folder(project, tmp_path):
    for name in ("one", "two"):
        write_folder(gather("release"), "org/x", tmp_path / name, accepted=False)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_a_folder_with_files_is_not_written_to(project, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="new or empty folder"):
        write_folder(gather("mixes/demo"), "org/x", tmp_path, accepted=False)


def test_a_tampered_output_is_not_published(project, tmp_path):
    path = project / "data" / "mixes" / "demo" / "train.parquet"
    tables.write(MIX, tables.read(MIX, path).head(3), path)
    with pytest.raises(UserError, match="dvc repro mix@demo"):
        write_folder(gather("mixes/demo"), "org/x", tmp_path / "out", accepted=False)


def test_an_account_that_is_not_here_is_asked_for(project, tmp_path):
    published_project.must(project, "rm", "-r", "data/standard/preferences/alpha")
    with pytest.raises(UserError, match="dvc pull standardize@alpha"):
        write_folder(gather("mixes/demo"), "org/x", tmp_path / "out", accepted=False)


@pytest.mark.parametrize("target", ["demo", "mixes", "mixes/demo/train", "models/t1"])
def test_an_unknown_target_is_answered_with_those_there_are(project, target):
    with pytest.raises(UserError, match=r"mixes/demo, .*iterations/t1, iterations/t2, release"):
        gather(target)


def test_shards_are_numbered_and_together_are_the_table(tmp_path):
    rows = published_project.standardized("alpha").with_columns(cluster_id=pl.col("prompt_id"))
    paths = write_shards(MIX, rows.select(list(MIX.columns)), tmp_path, "c/train", rows=5)
    assert paths == [f"c/train-{i:05d}-of-00003.parquet" for i in range(3)]
    parts = [pl.read_parquet(tmp_path / path) for path in paths]
    assert [part.height for part in parts] == [5, 5, 2]
    assert pl.concat(parts).equals(rows.select(list(MIX.columns)).sort(MIX.key))


def test_columns_have_plain_arrow_types(tmp_path):
    rows = published_project.standardized("alpha").with_columns(cluster_id=pl.col("prompt_id"))
    (path,) = write_shards(MIX, rows.select(list(MIX.columns)), tmp_path, "train")
    assert "large" not in str(pq.read_schema(tmp_path / path))
