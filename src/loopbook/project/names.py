"""Names: what a column is called in a file, and what it is called everywhere else.

It decides which names a contract may give. A *header* is what stands in the
user's file: any text. A *name* is what a column is called behind the door: in
frames, formulas, requests, logs and pages. It never looks at data.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel

SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
LONGEST = 100  # of a name: it becomes part of file names and of labels
# What a request says beside its features.
REQUESTS = {"as_of", "explain", "prediction_set"}
# Columns that loopbook adds to the rows, the answers or the files of a project.
OWN = {
    *("event_ts", "known_ts", "as_of_ts", "received_ts", "told_ts", "event_year", "part"),
    *("observed", "answer", "predicted", "estimated", "answer_before", "model_version"),
    *("id", "key", "version", "role", "model", "is_current", "is_judged", "prediction_id"),
}
# Of these a key or a time may be called: they get into no frame of answers.
OF_A_KEY = {"id", "key", "version", "role", "model", "answer", "predicted", "estimated"}
# Beside the trailing features of a timeline.
OF_HISTORY = {"entity", "valid_from"}
# The fields of a request are attributes of a model, which has these of its own.
ATTRIBUTES = {name for name in dir(BaseModel) if not name.startswith("_")} | {"Config"}


def safe_name(text: str) -> str:
    """The nearest name to a header: letters, digits and underscores, a letter first."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_").lower()[:LONGEST]
    return name if SAFE.match(name) else f"column_{name}".strip("_")


def plain_header(text: str) -> str:
    """A header without what nobody sees: how accents are stored, spaces around it, a BOM."""
    return unicodedata.normalize("NFC", text).strip().strip("\ufeff").strip()


def is_name(text: str) -> bool:
    return SAFE.match(text) is not None and len(text) <= LONGEST


def _safe(name: str) -> str:
    if is_name(name):
        return name
    if name == "FILL-IN":
        raise ValueError("is still to be filled in: the name of a column")
    if len(name) > LONGEST:
        name = f"{name[:20]}…"
    raise ValueError(
        f"{name!r} is no name (a letter, then letters, digits and _, at most {LONGEST}); call the "
        f"column {safe_name(name)!r} here and say what the file calls it under column or headers"
    )


Name = Annotated[str, AfterValidator(_safe)]
