"""Engines: the graph of notebooks, written for other engines.

It decides how another engine is told of the tasks: their order, what each
reads and writes, and the command that runs one. It never runs a task, and it
needs neither Ploomber nor the engine to write for it.
"""
