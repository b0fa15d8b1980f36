"""Read sections of params.yaml into typed, frozen classes.

No hidden defaults: every field of a class must be in the file, and every key of the file must
be a field. Validation is strict (a string is never a number). The YAML dialect is DVC's (ruamel,
YAML 1.2), so that DVC and the stage never see different values.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError

PARAMS_FILE = "params.yaml"

T = TypeVar("T")


class Params(BaseModel):
    """Base of every params section: frozen, strict, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_file(path: Path | None = None) -> dict[str, Any]:
    """The whole params file as plain Python values; `path` defaults to params.yaml."""
    path = path or Path(os.environ.get("PAIRMILL_PARAMS", PARAMS_FILE))
    if not path.exists():
        raise UserError(f"{path} is missing; copy a recipe there: cp recipes/quickstart.yaml {PARAMS_FILE}")
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML 1.2, found: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return content


def load(dotted: str, kind: type[T], path: Path | None = None) -> T:
    """Section `dotted` (such as "mixes.quickstart") as a `kind`; UserError names each wrong key."""
    section: Any = read_file(path)
    parts = dotted.split(".")
    for depth, key in enumerate(parts):
        if not isinstance(section, dict) or key not in section:
            found = sorted(map(str, section)) if isinstance(section, dict) else section
            where = ".".join(parts[:depth]) or "the top level"
            raise UserError(
                f"{PARAMS_FILE}: expected the key {dotted}, found at {where} only {found}; "
                f"add it, or compare with recipes/quickstart.yaml"
            )
        section = section[key]
    return parse(dotted, kind, section)


def parse(dotted: str, kind: type[T], section: Any) -> T:
    """`section` as a `kind`, or a UserError with one clause per wrong key."""
    try:
        # JSON mode, so that a YAML list is a valid tuple even though validation is strict.
        return TypeAdapter(kind).validate_json(json.dumps(section))
    except TypeError as error:
        raise UserError(f"{PARAMS_FILE}: {dotted}: {error}; keys and values must be plain YAML") from error
    except ValidationError as error:
        clauses = "; ".join(clause(dotted, section, item) for item in error.errors())
        raise UserError(
            f"{PARAMS_FILE}: {clauses}; edit that key, or compare with recipes/quickstart.yaml"
        ) from None


def clause(dotted: str, section: Any, item: Any) -> str:
    """One wrong key in words: where, what was expected, what was found."""
    where = ".".join([dotted, *place(section, item)])
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key {where}"
        case "missing":
            return f"{where} is missing"
        case "union_tag_not_found":
            return f"{where}.{item['ctx']['discriminator'].strip(chr(39))} is missing"
        case "union_tag_invalid":
            said = item["ctx"]
            where = f"{where}.{said['discriminator'].strip(chr(39))}"
            return f"{where}: expected one of {said['expected_tags']}, found {said['tag']!r}"
        case "value_error":
            return f"{where}: {str(item['msg']).removeprefix('Value error, ')}"
        case _:
            return f"{where}: {item['msg'][0].lower() + item['msg'][1:]}, found {item['input']!r}"


def place(section: Any, item: Any) -> Iterator[str]:
    """The keys down to a mistake, without the names of classes and types that pydantic puts between."""
    for depth, part in enumerate(item["loc"]):
        missing = item["type"] == "missing" and depth == len(item["loc"]) - 1
        inside = isinstance(section, dict | list)
        if not inside or (isinstance(section, dict) and part not in section and not missing):
            continue
        yield str(part)
        section = section[part] if not missing else None
