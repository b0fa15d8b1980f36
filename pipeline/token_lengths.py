"""How many tokens texts have, for tables of lengths: each distinct text is tokenised once.

The counts are those of the tokens that training would see of the text alone: no special tokens around it,
and names of special tokens inside it read as text. Neither torch nor transformers is imported.
"""

import polars as pl
from tokenizers import Tokenizer

from pipeline.tokenizing import batches, threads

#: Texts held as Python strings at once.
ROWS = 16_384


def lengths_by(tokenizer: Tokenizer, texts: pl.Series) -> pl.Series:
    """Number of tokens of each text by a `plain_tokenizer` (Int64, named as `texts`), null where it is null.

    Memory beside `texts`: a few million tokens, whatever their number. Threads as in the execution settings.
    """
    distinct = texts.drop_nulls().unique(maintain_order=True).rename("text")
    lengths: list[int] = []
    with threads():
        for chunk in distinct.to_frame().iter_slices(ROWS):
            rows = chunk["text"].to_list()
            for part in batches([len(text) for text in rows]):
                encoded = tokenizer.encode_batch_fast(rows[part], add_special_tokens=False)
                lengths += map(len, encoded)
    counted = pl.Series(texts.name, lengths, pl.Int64)
    if distinct.len() == texts.len():
        return counted
    known = pl.DataFrame({"text": distinct, "tokens": counted})
    asked = texts.rename("text").to_frame()
    return asked.join(known, on="text", how="left", maintain_order="left")["tokens"].rename(texts.name)
