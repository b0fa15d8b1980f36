"""The rules of a mix in plain Python, pair by pair, as the stage's docstring states them: slow and simple."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from fractions import Fraction

import polars as pl

from pipeline.shares import DropShare
from pipeline.splits import hash_order, in_test
from pipeline.stages.mix import MixParams, MixSource

Row = dict


def words(text: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())


def near(one: str, two: str, threshold: float) -> bool:
    """Jaccard of the vocabularies; the mixes compared with here use shingles of one word."""
    a, b = words(one), words(two)
    return bool(a | b) and len(a & b) / len(a | b) >= threshold


def components(texts: dict[str, str], threshold: float) -> dict[str, str]:
    """The lowest id of each id's connected component of near texts."""
    return connected(texts, lambda one, two: near(texts[one], texts[two], threshold))


def connected(ids: Iterable[str], related: Callable[[str, str], bool]) -> dict[str, str]:
    root = {key: key for key in ids}

    def find(key: str) -> str:
        return key if root[key] == key else find(root[key])

    for one in root:
        for two in root:
            if related(one, two):
                low, high = sorted((find(one), find(two)))
                root[high] = low
    return {key: find(key) for key in root}


def opening(messages: list[dict]) -> list[dict]:
    """The messages by which the user has said 32 characters."""
    for end in range(1, len(messages)):
        if sum(len(one["content"]) for one in messages[:end] if one["role"] == "user") >= 32:
            return messages[:end]
    return messages


def text(messages: list[dict]) -> str:
    return "\n".join(message["content"] for message in messages)


def ordered(ids: Iterable[str], *seed: object) -> list[str]:
    """Ids in the order of their hashes."""
    ids = sorted(set(ids))
    numbers = hash_order(pl.Series([int(i, 16) for i in ids], dtype=pl.UInt64), *seed)
    return [i for _, i in sorted(zip(numbers, ids, strict=True))]


class Reference:
    """What becomes of each row, by its number: train, test or the reason of its drop, and the other row."""

    def __init__(self, rows: list[Row], recipe: MixParams) -> None:
        self.recipe = recipe
        place = {name: number for number, name in enumerate(recipe.names)}
        self.left = sorted(rows, key=lambda r: (place[r["source"]], r["file"], r["row"], r["item"]))
        self.fate: dict[int, tuple[str, int | None]] = {}
        for step in (self.margins, self.too_long, self.repeats, self.cluster, self.conflicts, self.near):
            step()
        if recipe.max_pairs_per_prompt is not None:
            seed = ("prompt cap", recipe.split.seed)
            self.cap("over the prompt's cap", "cluster", lambda _: recipe.max_pairs_per_prompt, seed)
        seed = ("cap", recipe.split.seed)
        caps = {source.name: source.cap for source in recipe.sources}
        self.cap("over the source's cap", "source", lambda name: caps[name], seed)
        self.weigh(seed)
        for row in self.left:
            family = pl.Series([int(row["family"], 16)], dtype=pl.UInt64)
            self.fate[row["row"]] = ("test" if in_test(family, recipe.split)[0] else "train", None)

    def drop(
        self, reason: str, bad: Callable[[Row], object], other: Callable[[Row], Row] | None = None
    ) -> None:
        dropped = [row for row in self.left if bad(row)]
        for row in dropped:
            self.fate[row["row"]] = (reason, other(row)["row"] if other else None)
        self.left = [row for row in self.left if row["row"] not in {r["row"] for r in dropped}]

    def margins(self) -> None:
        for source in self.recipe.sources:
            if source.min_margin is not None:
                self.margins_of(source)

    def margins_of(self, source: MixSource) -> None:
        own = [row["row"] for row in self.left if row["source"] == source.name]
        margin = {
            row["row"]: round(row["chosen_score"] - row["rejected_score"], 9)
            for row in self.left
            if row["row"] in own and row["chosen_score"] is not None and row["rejected_score"] is not None
        }
        self.drop("no scores for the margin", lambda row: row["row"] in own and row["row"] not in margin)
        least = source.min_margin if isinstance(source.min_margin, float) else 0.0
        if isinstance(source.min_margin, DropShare) and margin:
            values, share = sorted(margin.values()), source.min_margin.drop
            least = min(values, key=lambda v: (abs(sum(w < v for w in values) / len(values) - share), v))
        self.drop("below the source's margin", lambda row: margin.get(row["row"], least) < least)

    def too_long(self) -> None:
        def length(row: Row) -> int:
            return len(text(row["prompt"])) + max(len(text(row[side])) for side in ("chosen", "rejected"))

        self.drop("too long", lambda row: length(row) > self.recipe.max_characters)

    def repeats(self) -> None:
        self.keep_first("exact duplicate", lambda row: row["pair_id"])

    def keep_first(self, reason: str, key: Callable[[Row], Hashable]) -> None:
        first: dict[Hashable, Row] = {}
        for row in self.left:
            first.setdefault(key(row), row)
        self.drop(reason, lambda row: first[key(row)] is not row, lambda row: first[key(row)])

    def cluster(self) -> None:
        threshold = self.recipe.near_dedup.threshold if self.recipe.near_dedup else 2.0
        asked = {row["prompt_id"]: row["prompt"] for row in self.left}
        whole = components({key: text(messages) for key, messages in asked.items()}, threshold)
        turn = {key: messages[-1]["content"] for key, messages in asked.items()}

        def kin(one: str, two: str) -> bool:
            return whole[one] == whole[two] or opening(asked[one]) == opening(asked[two])

        def same(one: str, two: str) -> bool:
            return whole[one] == whole[two] and near(turn[one], turn[two], threshold)

        family, prompts = connected(asked, kin), connected(asked, same)
        answers: dict[str, dict[str, str]] = defaultdict(dict)
        for row in self.left:
            row["cluster"], row["family"] = prompts[row["prompt_id"]], family[row["prompt_id"]]
            for side in ("chosen", "rejected"):
                answers[row["cluster"]][row[f"{side}_id"]] = text(row[side])
        found = {cluster: components(texts, threshold) for cluster, texts in answers.items()}
        for row in self.left:
            row["key"] = (
                row["cluster"],
                *(found[row["cluster"]][row[f"{side}_id"]] for side in ("chosen", "rejected")),
            )

    def conflicts(self) -> None:
        if self.recipe.conflicts == "keep_both":
            return
        exact = {(row["prompt_id"], row["rejected_id"], row["chosen_id"]): row for row in self.left}
        first: dict[Hashable, Row] = {}
        for row in self.left:
            first.setdefault(row["key"], row)
        place = {row["row"]: number for number, row in enumerate(self.left)}

        def same(row: Row) -> Row | None:
            return exact.get((row["prompt_id"], row["chosen_id"], row["rejected_id"]))

        def swapped(row: Row) -> Hashable:
            cluster, chosen, rejected = row["key"]
            return cluster, rejected, chosen

        def earliest(row: Row) -> tuple[Row, Row | None]:
            """The first pair with the row's label, and the first with the other."""
            if swapped(row) == row["key"]:
                return row, same(row)
            return first[row["key"]], first.get(swapped(row))

        def loses(row: Row) -> bool:
            own, other = earliest(row)
            late = other is not None and place[other["row"]] < place[own["row"]]
            return other is not None and (late or self.recipe.conflicts == "drop_both")

        losing = [row for row in self.left if loses(row)]
        for row in losing:
            exact_other = same(row)
            reason = NEAR_LABEL if exact_other is None else "contradictory label"
            self.fate[row["row"]] = (reason, (exact_other or first[swapped(row)])["row"])
        self.left = [row for row in self.left if row not in losing]

    def near(self) -> None:
        if self.recipe.near_dedup:
            self.keep_first("near-duplicate", lambda row: row["key"])

    def cap(self, reason: str, column: str, limit: Callable[[str], int | None], seed: tuple) -> None:
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.left:
            groups[row[column]].append(row)
        kept = set()
        for name, group in groups.items():
            kept |= set(ordered((row["pair_id"] for row in group), *seed)[: limit(name)])
        self.drop(reason, lambda row: row["pair_id"] not in kept)

    def weigh(self, seed: tuple) -> None:
        weights = {s.name: Fraction(str(s.weight)) for s in self.recipe.sources if s.weight is not None}
        counts = {name: sum(row["source"] == name for row in self.left) for name in weights}
        part = min((counts[name] / weight for name, weight in weights.items()), default=Fraction(0))
        self.cap(
            "over the source's weight",
            "source",
            lambda name: int(part * weights[name]) if name in weights else None,
            seed,
        )


NEAR_LABEL = "contradictory label of a near-duplicate"
