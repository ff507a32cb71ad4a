"""Provenance: where an answer and a version came from, and whether that is still so.

It decides what made an answer or a version, what two versions differ in and
whether what was registered still holds. It never changes what it looks at, and
what is missing it calls missing.
"""
