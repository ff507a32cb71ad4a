"""Formulas: what a derived column may be computed from.

It decides which functions a formula of the contract may use, and which names
it reads. It computes nothing (that is `features.rows`).
"""

import ast

EVENT_YEAR = "event_year"
FUNCTIONS = {"abs", "ceil", "exp", "expm1", "floor", "log", "log10", "log1p", "sqrt", "where"}


def formula_names(formula: str) -> set[str]:
    """The columns that a formula reads. Raises SyntaxError if it is none."""
    names = {n.id for n in ast.walk(ast.parse(formula, mode="eval")) if isinstance(n, ast.Name)}
    return names - FUNCTIONS
