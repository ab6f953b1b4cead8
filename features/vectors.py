"""Decoder rows of an SAE, in the storage beside the database: what one unit of a feature writes.

    vectors/<digest>/<chunk>.f4     ROWS rows each, float32, little-endian

They are named by the checkpoint's digest, so an SAE's files are written once. In the database they would double its
size, and a page wants one row now and then.
"""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from numpy.typing import NDArray

from features.evidence import NotFound
from features.models import SAE

ROWS = 256


def place_of(sae: SAE) -> str:
    """Where an SAE's rows are. One whose weights were never here has no digest, and is known by its key."""
    return place(sae.digest or f"sae-{sae.pk}")


def place(name: str) -> str:
    return f"vectors/{name}"


def keep(folder: str, chunks: Iterable[NDArray[np.float32]]) -> None:
    """Store the decoder, given as consecutive pieces of ROWS rows (the last may be shorter), float32 [rows, d_out].

    A file that is there and whole stays. One that was cut off, by a worker that was killed, is written again.
    """
    for number, rows in enumerate(chunks):
        name, content = f"{folder}/{number}.f4", rows.astype("<f4").tobytes()
        if default_storage.exists(name):
            if default_storage.size(name) == len(content):
                continue
            default_storage.delete(name)
        default_storage.save(name, ContentFile(content))


def vector_of(sae: SAE, index: int) -> NDArray[np.float32]:
    """float32 [d_out], in the units of the activations that the SAE writes. Raises NotFound where none is kept."""
    number, row = divmod(index, ROWS)
    width = 4 * sae.d_out
    with suppress(FileNotFoundError), default_storage.open(f"{place_of(sae)}/{number}.f4") as file:
        file.seek(row * width)
        content = file.read(width)
        if len(content) == width:
            return np.frombuffer(content, "<f4")
    why = "it is kept from the SAE's next run on" if sae.digest else "its SAE was imported without vectors"
    raise NotFound(f"The vector of feature {index} is not kept here: {why}.")
