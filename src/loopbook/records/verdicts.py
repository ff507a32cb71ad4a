"""Verdicts: the four words for a window, and which of them are alerts."""

HEALTHY, WATCH, INVESTIGATE, RETRAIN = "healthy", "watch", "investigate", "retrain"
LEVELS = (HEALTHY, WATCH, INVESTIGATE, RETRAIN)
ALERTS = (INVESTIGATE, RETRAIN)
