"""Monitoring: a window of answers, measured and judged.

It decides what has moved, what the error is and what the verdict says. It
never retrains, and it changes nothing but its own records.
"""
