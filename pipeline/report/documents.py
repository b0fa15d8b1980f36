"""What supervised fine-tuning sees: documents, blocks and how full they are; and how prompts were dealt."""

from dataclasses import dataclass

import polars as pl

from pipeline import tables
from pipeline.report.inputs import VALIDATION, Folders, Recipe
from pipeline.report.mixes import mean
from pipeline.schemas import BLOCKS, SLICE


@dataclass(frozen=True, kw_only=True)
class PackingFacts:
    """The blocks of demonstrations; `fill` is the share of the longest block that the mean block uses."""

    blocks: int
    documents: int
    tokens: int
    longest: int
    fill: float
    per_block: float
    trained: float
    """The share of tokens with a loss."""


@dataclass(frozen=True, kw_only=True)
class SliceFacts:
    """One slice of the prompts."""

    name: str
    prompts: int
    sources: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DealFacts:
    """All slices, and what two of them share."""

    slices: list[SliceFacts]
    shared_prompts: int
    shared_clusters: int


def packing_facts(folders: Folders) -> PackingFacts:
    """The figures of the packed blocks."""
    blocks = tables.read(BLOCKS, folders.packed / "blocks.parquet")
    sizes = blocks.select(
        tokens=pl.col("input_ids").list.len().cast(pl.Int64),
        documents=pl.col("seq_lengths").list.len().cast(pl.Int64),
        trained=pl.col("labels").list.eval(pl.element() != -100).list.sum().cast(pl.Int64),
    )
    tokens, longest = int(sizes["tokens"].sum()), max(sizes["tokens"].to_list(), default=0)
    return PackingFacts(
        blocks=blocks.height,
        documents=int(sizes["documents"].sum()),
        tokens=tokens,
        longest=longest,
        fill=tokens / (blocks.height * longest) if longest else float("nan"),
        per_block=mean(sizes["documents"]),
        trained=int(sizes["trained"].sum()) / tokens if tokens else float("nan"),
    )


def deal_facts(folders: Folders, recipe: Recipe) -> DealFacts:
    """The figures of the validation slice and of those of the iterations."""
    names = (VALIDATION, *recipe.iterations)
    frames = {name: tables.read(SLICE, folders.prompts / f"{name}.parquet") for name in names}
    dealt = pl.concat(
        [frame.select("prompt_id", "cluster_id", slice=pl.lit(name)) for name, frame in frames.items()]
    )

    def shared(column: str) -> int:
        homes = dealt.group_by(column).agg(n=pl.col("slice").n_unique())
        return homes.filter(pl.col("n") > 1).height

    return DealFacts(
        slices=[
            SliceFacts(
                name=name,
                prompts=frame.height,
                sources=dict(frame.group_by("source").len().sort("source").iter_rows()),
            )
            for name, frame in frames.items()
        ],
        shared_prompts=shared("prompt_id"),
        shared_clusters=shared("cluster_id"),
    )
