"""Data: rows from a source to checked, immutable snapshots, and the log of answers.

It decides which rows are known at an instant and which are fit for use. It
never computes a feature and knows no model.
"""
