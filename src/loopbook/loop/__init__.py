"""The loop: turns that monitor, retrain, promote and roll back, and replays of the past.

It decides whether to retrain now and whether a new champion stays. It never
judges a window or a challenger itself: the verdict and the gate do.
"""
