"""The rows of UltraInteract: trees of attempts at a problem, each with a right answer and a wrong one."""

from typing import Any

import numpy as np

from benchmarks.full_scale.kit import Kit, Rows, iter_texts
from benchmarks.full_scale.plan import BYTES_PER_TOKEN, counts, lengths, scaled

TEMPLATES = {
    "Coding": "Write Python code to solve the task.\n",
    "Math_CoT": (
        "Solve the following math problem step-by-step.\nSimplify your answer as much as possible. "
        "Present your final answer as \\boxed{Your Answer}.\n"
    ),
    "Math_PoT": (
        "Tool available:\n[1] Python interpreter\nWhen you send a message containing Python code to python, "
        "it will be executed in a stateful Jupyter notebook environment.\n"
        "Solve the following math problem step-by-step.\nSimplify your answer as much as possible.\n"
    ),
    "Logic": "Solve the following logical reasoning problem step by step.\n",
}
WANTED = ("Coding", "Math_CoT", "Math_PoT")
"""The tasks that the rules choose; rows of the other are dropped."""


def ultrainteract(kit: Kit) -> Rows:
    """Trees of attempts: a trajectory goes on from another by an attempt and what the user says of it."""
    per_prompt = counts(kit.rng, kit.goal.pairs, kit.goal.prompts, 1, 8)
    trees, weights = depths(kit, per_prompt.size), per_prompt.astype(float)
    relative = lengths(kit.rng, per_prompt.size)
    first = np.concatenate([[0], np.cumsum(trees)[:-1]])
    # A node's prompt is its own part and those before it: each part counts once for every pair below it.
    tree = np.repeat(np.arange(trees.size), trees)
    below = np.cumsum(weights[::-1])[::-1]
    below -= np.concatenate([below[1:], [0.0]])[np.cumsum(trees) - 1][tree]
    head = sum(len(TEMPLATES[task]) for task in WANTED) / 3
    sizes = (
        relative
        * (kit.goal.prompt * BYTES_PER_TOKEN - head)
        * weights.sum()
        / float((relative * below).sum())
    )
    roots = kit.prompts.make(sizes[first])
    extra = iter_texts(kit, np.delete(sizes, first))
    chosen = iter_texts(kit, scaled(lengths(kit.rng, int(weights.sum())), 1.0, kit.goal.chosen))
    rejected = iter_texts(kit, scaled(lengths(kit.rng, int(weights.sum())), 1.0, kit.goal.rejected))
    identity = 0
    for number, (start, depth) in enumerate(zip(first.tolist(), trees.tolist(), strict=True)):
        task = WANTED[number % 3]
        trajectory = [{"from": "user", "value": TEMPLATES[task] + roots[number]}]
        for node in range(start, start + depth):
            if node > start:
                text = next(extra)
                half = len(text) * 2 // 3
                trajectory = [
                    *trajectory,
                    {"from": "assistant", "value": text[:half] or "print(1)"},
                    {"from": "user", "value": f"Observation:\n{text[half:]}"},
                ]
            for _ in range(int(per_prompt[node])):
                row = interaction(task, trajectory, next(chosen), next(rejected), identity)
                yield "0000_pair.parquet", row
                identity += 1
                if kit.rng.random() < 57_595 / 161_927:
                    yield "0000_pair.parquet", unwanted(kit, row)


def depths(kit: Kit, nodes: int) -> np.ndarray:
    """Depths of trees of `nodes` nodes in all."""
    found = kit.rng.choice([1, 2, 3, 4], size=nodes, p=[0.45, 0.3, 0.15, 0.1])
    last = int(np.searchsorted(np.cumsum(found), nodes))
    found = found[: last + 1]
    found[-1] -= found.sum() - nodes
    return found


def interaction(
    task: str, trajectory: list[dict[str, str]], good: str, bad: str, number: int
) -> dict[str, Any]:
    """A row of the set."""
    return {
        "task": task,
        "dataset": "MATH" if task != "Coding" else "TACO",
        "trajectory": trajectory,
        "chosen": good,
        "rejected": bad,
        "id": str(number),
        "parent_id": str(number - 1),
    }


def unwanted(kit: Kit, row: dict[str, Any]) -> dict[str, Any]:
    """A row that the rules drop: of a task that is not chosen, or without two answers."""
    draw = kit.rng.random()
    if draw < 0.95:
        return row | {"task": "Logic", "dataset": "ReClor"}
    return row | {"rejected": row["chosen"] if draw < 0.975 else ""}
