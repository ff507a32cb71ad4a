"""Backups: all that a project keeps, as one file, and back.

It decides what belongs into a backup, how each store is read in one moment while
a service goes on writing, and when a backup may be put back. It never writes over
anything, and it knows no row, no model and no verdict.
"""
