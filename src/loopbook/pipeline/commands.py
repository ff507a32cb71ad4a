"""The commands that loopbook suggests, in one place, so that they stay true."""

NEXT_COMMANDS = {
    "make lab": "open, edit and rerun the notebooks in JupyterLab",
    "make mlflow": "compare the runs and see the registry",
    "make status": "what serves, how old it is, what is stale",
    "make help": "everything else",
}
