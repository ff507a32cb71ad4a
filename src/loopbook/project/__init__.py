"""The project: contract, knobs, paths, files and the clock, the ground of all else.

It decides what a project is and how its files are read and written. It never
looks at a table's rows, and it imports no other package of ours.
"""
