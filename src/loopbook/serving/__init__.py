"""The prediction service, and batch scoring with the same code.

It decides how a request is checked, answered and logged. It never trains,
never unpickles, and imports neither MLflow nor Jupyter.
"""
