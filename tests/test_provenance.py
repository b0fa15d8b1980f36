import pytest

from pipeline.errors import UserError
from pipeline.provenance import provenance, read_lock, step
from tests import published_project


@pytest.fixture
def project(tmp_path, tmp_path_factory, monkeypatch):
    folder = published_project.copy_of_project(tmp_path_factory, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def record():
    return provenance([step(read_lock(), "mix@demo")])


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_record_names_the_revision_and_what_was_run(project):
    made = record()
    assert made.revision == published_project.must(project, "git", "rev-parse", "HEAD").strip()
    (only,) = made.steps
    assert only.values == {"mixes.demo": {"sources": ["alpha"]}}
    assert only.command == "mkdir -p data/mixes && cp -r made/mixes/demo data/mixes/"
    assert set(only.inputs) == {"made/mixes/demo"}
    assert only.outputs == {"data/mixes/demo": only.inputs["made/mixes/demo"]}


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "pipeline/new.py"])
def test_an_uncommitted_change_is_refused(project, name):
    (project / "pipeline").mkdir()
    with (project / name).open("a") as file:
        file.write("# later\n")
    with pytest.raises(UserError, match=rf"{name}.*uncommitted.*git commit"):
        record()


def test_other_uncommitted_files_are_no_matter(project):
    (project / "notes.txt").write_text("mine")
    record()


def test_an_output_that_is_not_as_in_the_lock_is_refused(project):
    with (project / "data" / "mixes" / "demo" / "train.parquet").open("ab") as file:
        file.write(b"!")
    with pytest.raises(UserError, match=r"data/mixes/demo modified.*dvc repro mix@demo"):
        record()


def test_committed_params_that_were_not_run_are_refused(project):
    edit(project / "params.yaml", "demo: {sources: [alpha]}", "demo: {sources: [beta]}")
    published_project.commit(project)
    with pytest.raises(UserError, match=r"params.yaml: mixes.demo modified.*dvc repro mix@demo"):
        record()


def test_a_stage_that_was_not_run_is_named_with_its_neighbours(project):
    with pytest.raises(UserError, match=r"mix@nope.*mix@demo.*dvc repro mix@nope"):
        step(read_lock(), "mix@nope")


def test_a_folder_without_a_commit_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="expected a git repository with a commit"):
        provenance([])


def test_a_missing_or_damaged_lock_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc repro"):
        read_lock()
    (tmp_path / "dvc.lock").write_text("stages: {")
    with pytest.raises(UserError, match=r"git checkout dvc.lock"):
        read_lock()
