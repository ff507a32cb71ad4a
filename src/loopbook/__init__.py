"""loopbook: notebooks that close the loop.

The package is flat, one noun a module; `docs/architecture.md` draws who may
import whom. Importing it does nothing and costs nothing.
"""
