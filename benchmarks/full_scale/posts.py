"""The rows of SHP: pairs of answers to posts, most with votes too close to count."""

import numpy as np

from benchmarks.full_scale.kit import CHUNK, Kit, Rows, bad_line
from benchmarks.full_scale.plan import lengths, scaled

DOMAINS = (
    *("askacademia", "askanthropology", "askbaking", "askcarguys", "askculinary", "askdocs", "askengineers"),
    *("askhistorians", "askhr", "askphilosophy", "askphysics", "askscience", "asksciencefiction"),
    *("asksocialscience", "askvet", "changemyview", "explainlikeimfive", "legaladvice"),
)


def shp(kit: Kit) -> Rows:
    """Posts with answers, in pairs; most of the rows have a ratio of votes that is too small."""
    per_prompt, sizes = kit.plan(1, 5)
    idle = kit.part(7_500)
    sizes = np.concatenate([sizes, kit.rng.choice(sizes, idle)])
    per_prompt = np.concatenate([per_prompt, np.zeros(idle, dtype=per_prompt.dtype)])
    posts = kit.prompts.make(sizes)
    # Posts at the cap have more pairs than it lets through.
    above = np.where(per_prompt == 5, kit.rng.geometric(0.14, sizes.size), 0)
    wanted = per_prompt + above
    best = np.maximum(1, np.round(np.sqrt(wanted / 3))).astype(int)
    others = np.maximum(2, np.ceil(wanted / best)).astype(int)
    low = kit.rng.poisson(kit.part(348_718 - 93_301) / sizes.size - above.mean(), sizes.size)
    best_sizes = scaled(
        lengths(kit.rng, int(best.sum())), np.repeat(per_prompt / best, best), kit.goal.chosen
    )
    other_sizes = scaled(
        lengths(kit.rng, int(others.sum())), np.repeat(per_prompt / others, others), kit.goal.rejected
    )
    best_end, other_end = np.cumsum(best), np.cumsum(others)
    for start in range(0, sizes.size, CHUNK):
        stop = min(start + CHUNK, sizes.size)
        a, b = best_end[start] - best[start], other_end[start] - others[start]
        goods = kit.answers(best_sizes[a : best_end[stop - 1]])
        bads = kit.answers(other_sizes[b : other_end[stop - 1]])
        for place in range(start, stop):
            mine = goods[best_end[place] - best[place] - a : best_end[place] - a]
            rest = bads[other_end[place] - others[place] - b : other_end[place] - b]
            yield from post(kit, place, posts[place], mine, rest, int(wanted[place]), int(low[place]))


def post(kit: Kit, place: int, text: str, best: list[str], rest: list[str], pairs_of: int, low: int) -> Rows:
    """The rows of one post: `pairs_of` with a ratio above 2, `low` with one that is not."""
    domain = DOMAINS[place % len(DOMAINS)]
    votes = [int(kit.rng.integers(2, 40)) for _ in rest]
    top = [2 * max(votes) + int(kit.rng.integers(1, 400)) for _ in best]
    combined = [(i, j) for i in range(len(best)) for j in range(len(rest))][:pairs_of]
    rows = [((best[i], top[i]), (rest[j], votes[j])) for i, j in combined]
    for _ in range(low):
        i, j = (int(k) for k in kit.rng.choice(len(rest), 2, replace=False))
        first = max(votes[i], votes[j])
        rows.append(((rest[i], first), (rest[j], max(1, int(first * kit.rng.uniform(0.5, 0.99) + 0.999)))))
    for number, (better, worse) in enumerate(rows):
        preferred_first = bool(kit.rng.random() < 0.5)
        a, b = (better, worse) if preferred_first else (worse, better)
        yield (
            f"{domain}/train.json",
            {
                "post_id": f"p{place:06x}",
                "domain": f"{domain}_train",
                "upvote_ratio": round(float(kit.rng.uniform(0.5, 1)), 2),
                "history": text,
                "c_root_id_A": f"a{place:x}{number:x}",
                "c_root_id_B": f"b{place:x}{number:x}",
                "created_at_utc_A": 1_500_000_000 + place * 7,
                "created_at_utc_B": 1_500_000_000 + place * 7 + number,
                "score_A": a[1],
                "score_B": b[1],
                "human_ref_A": a[0],
                "human_ref_B": b[0],
                "labels": int(preferred_first),
                "seconds_difference": float(number),
                "score_ratio": better[1] / worse[1],
            },
        )
        if line := bad_line(kit):
            yield f"{domain}/train.json", line
