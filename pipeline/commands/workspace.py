"""How the inputs of stages differ from dvc.lock; each file is read once for all stages."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.params import read_file

MISSING = object()


@dataclass
class Workspace:
    """The digests of inputs as they are, and the values of params files."""

    digests: dict[tuple[str, str], Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def difference(self, dep: Any) -> str | None:
        """How an input differs from dvc.lock, in words."""
        from dvc.dependency import ParamsDependency

        if isinstance(dep, ParamsDependency):
            return self.other_values(dep)
        place = dep.fs_path, dep.hash_name
        if place not in self.digests:
            self.digests[place] = dep.get_hash() if dep.exists else None
        if self.digests[place] is None:
            return f"{dep.def_path} is missing"
        return dep.def_path if self.digests[place] != dep.hash_info else None

    def other_values(self, dep: Any) -> str | None:
        """The sections of a params file that differ from dvc.lock."""
        if dep.fs_path not in self.values:
            self.values[dep.fs_path] = read_file(Path(dep.fs_path))
        then = dep.hash_info.value or {}
        other = [key for key in dep.params if at(self.values[dep.fs_path], key) != then.get(key, MISSING)]
        return f"params {' '.join(other)}" if other else None


def at(values: Any, key: str) -> Any:
    """The value at a dotted key; MISSING where there is none."""
    for part in key.split("."):
        values = values.get(part, MISSING) if isinstance(values, dict) else MISSING
    return values
