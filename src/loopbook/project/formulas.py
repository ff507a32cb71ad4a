"""Formulas: what a derived column may be computed from.

It decides which functions a formula of the contract may use, which names it
reads, and that it can be computed at all, before any row is read. A column may
be called as it likes, `max` or `class` too: before anything interprets a
formula, its columns are called x0, x1 and so on.
"""

import ast
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numexpr

EVENT_YEAR = "event_year"
FUNCTIONS = {"abs", "ceil", "exp", "expm1", "floor", "log", "log10", "log1p", "sqrt", "where"}
WORD = re.compile(r"(?<![\w.])[^\W\d]\w*")  # not the e of 1e5
ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Load),
    *(ast.Constant, ast.operator, ast.USub, ast.UAdd, ast.Invert),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)
NOT_COMPUTED = (ArithmeticError, LookupError, MemoryError, NotImplementedError, RecursionError)
NOT_COMPUTED += (TypeError, ValueError, AttributeError)


def formula_names(formula: str) -> set[str]:
    """The columns that a formula reads. Raises SyntaxError if it is none."""
    _plain(formula)
    return _columns(formula)


@lru_cache(maxsize=256)
def compiled(formula: str) -> tuple["numexpr.NumExpr", tuple[str, ...]]:
    """A formula as a function of float64 arrays, and the columns that they are, in order."""
    return _compile(formula)


@lru_cache(maxsize=256)
def uncomputed(formula: str) -> str | None:
    """Why a formula of known columns cannot be computed, or None: it is tried on one row."""
    import numpy as np

    try:
        # one of its own: that of `compiled` may be at work in another thread
        function, names = _compile(formula)
        value = np.asarray(function(*(np.ones(1) for _ in names)))
    except NOT_COMPUTED as reason:
        return str(reason).partition("\n")[0] or type(reason).__name__
    return None if value.dtype.kind in "biuf" else f"its value is of type {value.dtype}"


def _compile(formula: str) -> tuple["numexpr.NumExpr", tuple[str, ...]]:
    # a command that only reads a contract without formulas need not wait for these
    import numexpr
    import numpy as np

    names = tuple(sorted(_columns(formula)))
    signature = [(f"x{place}", np.float64) for place in range(len(names))]
    with np.errstate(all="ignore"):  # numexpr computes constants here: log(0) is no value
        return numexpr.NumExpr(_plain(formula), signature=signature), names


def called_names(formula: str) -> set[str]:
    """What stands before a parenthesis and is no function that there is."""
    return {word for word, is_called in _words(formula) if is_called and word not in FUNCTIONS}


def _columns(formula: str) -> set[str]:
    """Every name but those of functions that are called."""
    words = _words(formula)
    return {word for word, is_called in words if not (is_called and word in FUNCTIONS)}


def _words(formula: str) -> list[tuple[str, bool]]:
    """The names in a formula, and whether a parenthesis follows."""
    return [(m[0], formula[m.end() :].lstrip()[:1] == "(") for m in WORD.finditer(formula)]


def _plain(formula: str) -> str:
    """A formula with x0, x1, … for its columns; SyntaxError if it is more than arithmetic."""
    places = {name: place for place, name in enumerate(sorted(_columns(formula)))}

    def called(word: re.Match) -> str:
        is_function = word[0] in FUNCTIONS and formula[word.end() :].lstrip()[:1] == "("
        return word[0] if is_function else f"x{places[word[0]]}"

    text = " ".join(WORD.sub(called, formula).split())
    try:
        tree = ast.parse(text, mode="eval")
    except (MemoryError, RecursionError, ValueError) as reason:
        raise SyntaxError(str(reason) or "it is too deep") from None
    for node in ast.walk(tree):
        numeric = not isinstance(node, ast.Constant) or type(node.value) in (int, float)
        simple = not isinstance(node, ast.Compare) or len(node.ops) == 1
        if not (isinstance(node, ARITHMETIC) and numeric and simple):
            raise SyntaxError(
                "it is more than arithmetic with +, -, *, /, **, %, <, > and functions"
            )
    return text
