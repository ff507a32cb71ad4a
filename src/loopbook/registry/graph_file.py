"""A graph's file: what has to hold of an ONNX model before it is given to ONNX Runtime.

It decides that a graph brings its numbers along: one that points at files
elsewhere is refused, since no digest covers those. It walks the few message
types that can hold a tensor, and needs no package for that.
"""

from collections.abc import Iterator

# message → field → message inside; onnx.proto, which only ever adds fields
INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
DEEPEST = 64
STEP = 2**22


def points_elsewhere(graph: bytes) -> bool:
    """Whether a tensor of a serialised model has its numbers in another file.

    Raises
    ------
    ValueError
        If the bytes are no protobuf message, or messages stand in each other without end.
    """
    if not _has(graph, b"location"):  # the one key that such a tensor must have
        return False
    waiting = [("model", memoryview(graph), 0)]
    while waiting:
        kind, content, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"its parts stand in each other more than {DEEPEST} deep")
        for field, value in _fields(content):
            if kind == "tensor" and (field == EXTERNAL_DATA or (field == DATA_LOCATION and value)):
                return True
            if field in INSIDE[kind] and isinstance(value, memoryview):
                waiting.append((INSIDE[kind][field], value, depth + 1))
    return False


def _has(graph: bytes, word: bytes) -> bool:
    """Whether a word stands in it; in steps, since one search lets no other thread run."""
    return any(
        graph.find(word, start, start + STEP + len(word)) >= 0
        for start in range(0, len(graph), STEP)
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: their numbers, with a number or what is inside."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == 0:
            value, place = _varint(message, place)
        elif wire == 2:
            size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {place:,}")
        if place > len(message):
            raise ValueError("it ends within a field")
        yield field, value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends within a number")
        byte, place = message[place], place + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number has more than ten bytes")
