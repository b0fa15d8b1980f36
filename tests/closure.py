"""The import closure of each stage's module, and the tool that writes it into dvc.yaml.

python -m tests.closure
"""

import ast
import sys
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


@cache
def imported_files(file: Path) -> frozenset[Path]:
    """The files under pipeline/ that `file` imports itself."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            path = ROOT / Path(*name.split("."))
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if name.startswith("pipeline.") and candidate.exists():
                    found.add(candidate)
    return frozenset(found)


def closure(file: Path) -> set[Path]:
    """`file` and every file under pipeline/ that it reaches by import; empty packages are left out."""
    seen, todo = set(), [file]
    while todo:
        if (here := todo.pop()) not in seen:
            seen.add(here)
            todo += imported_files(here)
    return {path for path in seen if path.name != "__init__.py" or path.stat().st_size}


def stage_module(name: str) -> Path:
    """The module of a stage or group of dvc.yaml."""
    return ROOT / "pipeline" / "stages" / f"{name}.py"


def adapters() -> list[Path]:
    """The modules that a `standardize` stage loads by the name in params.yaml."""
    return sorted(path for path in (ROOT / "pipeline" / "sources").glob("*.py") if path.name != "__init__.py")


def code_deps(name: str) -> list[str]:
    """What the deps of a stage must list, relative to the root and sorted.

    `standardize` names its adapter by a variable, so it lists what all adapters share instead.
    """
    files = closure(stage_module(name))
    if name == "standardize":
        named = set(adapters())
        files |= set().union(*(closure(adapter) for adapter in named)) - {
            adapter for adapter in named if hasattr_kind(adapter)
        }
    if name == "report":
        files |= set((ROOT / "pipeline").glob("*.jinja"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def hasattr_kind(adapter: Path) -> bool:
    """Whether a module of sources/ is an adapter: it declares the KIND of its table."""
    body = ast.parse(adapter.read_text(encoding="utf-8")).body
    return any(
        isinstance(node, ast.Assign) and node.targets[0].id == "KIND" for node in body if targets_name(node)
    )


def targets_name(node: ast.stmt) -> bool:
    """Whether a statement assigns to one plain name."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)


def main() -> None:
    """Rewrite the code deps of dvc.yaml; data deps, comments and order stay."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 120, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    for name, stage in document["stages"].items():
        body = stage.get("do", stage)
        data = [dep for dep in body["deps"] if not (dep.startswith("pipeline/") and "${" not in dep)]
        body["deps"] = [*data, *code_deps(name)]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


if __name__ == "__main__":
    sys.exit(main())
