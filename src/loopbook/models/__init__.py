"""Models: candidates, their export to ONNX, their evaluation and the promotion gate.

It decides what is fitted and which of two models is better on the same rows.
It never knows who serves, and it opens no registry.
"""
