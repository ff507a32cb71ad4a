"""Features: from a row to the numbers that a model takes, and the feature store.

It decides what is known about a row at its instant, the same in training and
in serving. It never fits anything.
"""
