"""Colours: how a verdict and an outcome look, on every page and in every figure.

It decides a colour (safe for the colour-blind, after Okabe and Ito, and dark
enough to be read as text) and a sign for each: nothing is told by colour alone.
"""

LEVELS = {
    "healthy": ("#00634a", "✔"),
    "watch": ("#005688", "◔"),
    "investigate": ("#8a5a00", "▲"),
    "retrain": ("#a34700", "↻"),
}
OUTCOMES = {
    "nothing": ("#555555", "–"),
    "promoted": ("#00634a", "↑"),
    "refused": ("#005688", "✕"),
    "investigate": ("#8a5a00", "▲"),
    "rolled back": ("#a34700", "↩"),
    "error": ("#862e6b", "!"),
}
UNKNOWN = ("#555555", "?")
