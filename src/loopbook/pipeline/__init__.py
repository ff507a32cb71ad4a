"""The pipeline: the graph of notebooks, resolved and run.

It decides when a task runs again and how notebooks run side by side. It never
looks into a table or a model.
"""
