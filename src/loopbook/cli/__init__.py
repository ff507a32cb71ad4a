"""The command line: what a person types and reads.

It decides words and exit codes. It never holds a rule of its own.
"""
