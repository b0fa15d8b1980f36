"""The same search by other libraries, each with the fastest of its own calls.

All of them get the texts as strings and make lower-case words of letters and digits out of them, then runs of
`shingle` words, which is what each user of these libraries writes in Python. Each has 20 bands of 6 minima:
a pair of similarity 0.8 is missed with probability 0.002, so that their recall is comparable to ours.
None of the three checks a candidate, so their precision is that of the bands. They are imported when they
run: only the timing needs them (`pip install pairmill[bench]`).
"""

import re
import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

BANDS, ROWS = 20, 6
WORD = re.compile(r"[^\W_]+")

Peer = Callable[[Sequence[str], int], np.ndarray]
"""From texts and the length of a shingle to a label per text: texts of one label are joined."""


def shingle_list(text: str, shingle: int) -> list[str]:
    """The runs of `shingle` words; a shorter text is one run."""
    words = WORD.findall(text.lower())
    return [" ".join(words[at : at + shingle]) for at in range(max(1, len(words) - shingle + 1))]


def joined(size: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """The components of texts 0 to `size` - 1 that the pairs make."""
    parent = list(range(size))

    def root(text: int) -> int:
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for left, right in pairs:
        parent[root(left)] = root(right)
    return np.array([root(text) for text in range(size)])


def datasketch(texts: Sequence[str], shingle: int) -> np.ndarray:
    """MinHash in bulk, and MinHashLSH filled and asked text by text."""
    library: Any = import_module("datasketch")
    sets = ([part.encode() for part in shingle_list(text, shingle)] for text in texts)
    index = library.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    pairs = []
    for text, found in enumerate(library.MinHash.generator(sets, num_perm=BANDS * ROWS, seed=1)):
        pairs += [(text, other) for other in index.query(found)]
        index.insert(text, found, check_duplication=False)
    return joined(len(texts), pairs)


def rensa(texts: Sequence[str], shingle: int) -> np.ndarray:
    """RMinHash of all texts in one call, RMinHashLSH filled and asked in one call each."""
    library: Any = import_module("rensa")
    sketches = library.RMinHash.from_token_sets(
        (shingle_list(text, shingle) for text in texts), num_perm=BANDS * ROWS, seed=1
    )
    index = library.RMinHashLSH(threshold=0.8, num_perm=BANDS * ROWS, num_bands=BANDS)
    index.insert_many(sketches)
    found = index.query_all(sketches)
    return joined(len(texts), ((text, other) for text, others in enumerate(found) for other in others))


def datatrove(texts: Sequence[str], shingle: int) -> np.ndarray:
    """The signature, bucket and cluster steps of its MinHash pipeline, on disk, in this process.

    Its tokeniser for English needs spaCy; words are split at white space after its own normalisation, of
    which the numbers, weekdays and months are left as they are.
    """
    steps: Any = import_module("datatrove.pipeline.dedup")
    document = import_module("datatrove.data").Document
    config = steps.MinhashConfig(
        n_grams=shingle,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        # Its xxhash does not take strings in version 4 of that library.
        hash_config=import_module("datatrove.utils.hashing").HashConfig(hash_fc="sha1"),
        norm_config=import_module("datatrove.utils.text").TextNormConfig(
            norm_numbers=False, norm_weekdays=False, norm_monthnames=False
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        signatures, buckets, clusters = (str(Path(folder) / name) for name in ("a", "b", "c"))
        documents = (document(text=text, id=str(place)) for place, text in enumerate(texts))
        steps.MinhashDedupSignature(signatures, config, language=split_at_spaces()).run(documents, 0, 1)
        for bucket in range(BANDS):
            steps.MinhashDedupBuckets(signatures, buckets, config=config).run(None, bucket, BANDS)
        steps.MinhashDedupCluster(buckets, clusters, config, save_cluster_id=True).run(None, 0, 1)
        label = np.arange(len(texts)) + len(texts)
        for file in Path(clusters).glob("*.clusters"):
            for text, cluster in struct.iter_unpack("<II", file.read_bytes()):
                label[text] = cluster
    return label


def split_at_spaces() -> Any:
    """A tokeniser of datatrove that splits at white space."""
    base = import_module("datatrove.utils.word_tokenizers").WordTokenizer
    return type(
        "Split",
        (base,),
        {
            "word_tokenize": lambda _, text: text.split(),
            "sent_tokenize": lambda _, text: [text],
            "span_tokenize": lambda _, text: [(0, len(text))],
        },
    )()


PEERS: dict[str, tuple[Peer, int]] = {
    "datasketch": (datasketch, 5_000),
    "rensa": (rensa, 50_000),
    "datatrove": (datatrove, 5_000),
}
"""Each library: its search, and how many documents it gets at most: a slow one gets fewer."""
