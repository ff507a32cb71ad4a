"""Roles: under which name a version is known and answers.

The registry uses these words as aliases, the prediction log as the role of an
answer. Here is their only place.
"""

CHAMPION = "champion"  # it serves
CHALLENGER = "challenger"  # the best candidate of the newest build
PREVIOUS = "previous-champion"  # it served before
SHADOW = "shadow"  # it answers too and only the log knows: the version before, on probation
CANARY = "canary"  # the challenger, where it answers a share of the requests
