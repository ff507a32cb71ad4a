"""Proposal: a contract for a table that nobody has described.

It decides what a table seems to be, how sure that is and why. It never
overwrites what a person wrote, and it never decides what only a person knows.
"""
