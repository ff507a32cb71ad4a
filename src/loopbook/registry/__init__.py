"""The registry: runs and versions in MLflow, and who is champion by whose decision.

It decides which version serves and what is needed to verify, load and compare
one. It never fits a model.
"""
