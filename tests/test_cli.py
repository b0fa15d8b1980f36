import json
from types import SimpleNamespace

import pytest

from pipeline import doctor, edge
from pipeline import sources as adapters
from pipeline.cli import main
from pipeline.execution import Execution
from tests import published_project


@pytest.fixture
def project(tmp_path, tmp_path_factory, monkeypatch):
    folder = published_project.copy_of_project(tmp_path_factory, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def run(*words):
    """The exit status of a command."""
    with pytest.raises(SystemExit) as leaving:
        main(words)
    return leaving.value.code


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_sources_lists_every_adapter_and_what_params_names(project, capsys):
    assert run("sources") == 0
    lines = capsys.readouterr().out.splitlines()
    headings = {line.split(":")[0] for line in lines if line and not line.startswith(" ") and ":" in line}
    assert set(adapters.names()) <= headings
    assert any(line.startswith("hh_rlhf: preferences, read by alpha, beta") for line in lines)
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("source ")) :]
    assert table[0].split() == ["source", "adapter", "kind", "origin", "licence", "redistributable"]
    assert table[2].split() == ["beta", "hh_rlhf", "preferences", "path:beta", "CC-BY-NC-4.0", "False"]


def test_sources_can_be_asked_for_one_adapter_and_without_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("sources", "shp") == 0
    out = capsys.readouterr().out
    assert out.startswith("shp: preferences\n")
    assert "93,301 pairs of 31,003 prompts (arXiv 2405.07863, table 5)" in out
    assert "Reddit API terms; not to be redistributed" in out
    assert "nectar" not in out
    assert run("sources", "nonsense") == 2
    assert "found 'nonsense'" in capsys.readouterr().err


def test_sources_for_machines_is_json(project, capsys):
    assert run("sources", "hh_rlhf", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["adapters"]) == ["hh_rlhf"]
    assert said["adapters"]["hh_rlhf"]["sets"][0]["paper"]["pairs"] == 115_396
    assert said["sources"]["alpha"] == {
        "adapter": "hh_rlhf",
        "kind": "preferences",
        "origin": "path:alpha",
        "licence": "MIT",
        "redistributable": True,
        "set": None,
    }


def test_a_mistake_is_one_line_and_status_2(project, capsys):
    edit(project / "params.yaml", "licence: MIT", "license: MIT")
    assert run("sources") == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: params.yaml:")
    assert "sources.alpha.license" in complaint


def test_a_dry_run_needs_no_hub(project, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run("publish", "iterations/t1", "--repo", "org/t1", "--dry-run", str(tmp_path / "out")) == 0
    assert "nothing uploaded" in capsys.readouterr().out
    assert (tmp_path / "out" / "README.md").exists()


def test_a_dry_run_refuses_what_publishing_refuses(project, tmp_path, capsys):
    edit(project / "params.yaml", "pair: {min_margin: 0.25}", "pair: {min_margin: 0.5}")
    assert run("publish", "mixes/demo", "--repo", "org/x", "--dry-run", str(tmp_path / "out")) == 2
    assert "params.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def findings():
    return {finding.name: finding for finding in doctor.examine()}


def test_the_doctor_finds_a_sound_project_sound(project, capsys):
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert out.count("ok ") == 4
    assert "dvc.yaml: 17 stages" in out


def test_the_doctor_sees_every_fault_at_once(project, capsys):
    edit(project / "params.yaml", "pair: {min_margin: 0.25}", "pair: {1: 0.25}")
    edit(project / "dvc.yaml", "${key}", "${nobody}")
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "BAD params.yaml: params.yaml: expected words as keys, found pair.1" in out
    assert "BAD dvc.yaml: dvc dag:" in out


def test_the_doctor_sees_a_cycle(project):
    edit(project / "dvc.yaml", "deps: [made/prompts]", "deps: [data/release]")
    assert not findings()["dvc.yaml"].good


def test_the_doctor_sees_a_base_model_that_is_not_the_recorded_one(project):
    with (project / "dvc.yaml").open("a") as file:
        file.write("  base_model:\n    cmd: mkdir models && echo w > models/weights\n    outs: [models]\n")
    assert "not made yet" in findings()["base model"].message
    published_project.must(project, "dvc", "repro", "-q", "base_model")
    assert "as in dvc.lock" in findings()["base model"].message
    (project / "models" / "weights").write_text("other")
    found = findings()["base model"]
    assert not found.good
    assert "dvc repro base_model" in found.message


def test_the_doctor_sees_a_full_disk(project, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_FREE_GIB", 10**9)
    assert not findings()["disk"].good


def test_costs_tell_the_last_run_of_each_stage_and_the_sums(tmp_path, monkeypatch, capsys):
    runs = [("sft", 100.0, 900), ("judge@t1", 5.0, 300), ("sft", 60.25, 800)]
    monkeypatch.setattr(edge, "execution", lambda: Execution(state=tmp_path))
    monkeypatch.setattr(edge.time, "strftime", lambda *_: "2026-01-01T00:00:00Z")
    for stage, seconds, peak in runs:
        usage = SimpleNamespace(ru_maxrss=peak * 1024)
        monkeypatch.setattr(edge.resource, "getrusage", lambda _, usage=usage: usage)
        edge.record(stage, seconds)
    assert run("costs") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [["sft", "60.2", "800"], ["judge@t1", "5.0", "300"], ["all", "stages", "65.2", "800"]]


def test_costs_without_any_run_say_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(edge, "execution", lambda: Execution(state=tmp_path))
    assert run("costs") == 2
    assert "dvc repro" in capsys.readouterr().err
