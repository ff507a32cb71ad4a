"""Pages: what dashboards and notebooks show of finished records.

It decides words, tables and figures. It computes no number of its own, and
nothing of the data becomes markup or script.
"""
