"""loopbook: notebooks that close the loop.

The package is flat, one noun a module; tests/test_house.py says who may
import whom. Importing it does nothing and costs nothing.
"""
