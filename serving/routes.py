"""This project's own routes and middleware: the place for them.

loopbook's routes (/predict, /feedback, /docs, …) are there already; docs/serving.md
lists them, and none may be shadowed. What is added here stands behind the same
guard: API keys, limits, a log line a request, one shape of errors.
"How to", in docs/how-to.md, has an example to copy.
"""

from fastapi import FastAPI


def extend(app: FastAPI) -> None:
    """Add routes (`@app.get(…)`) and middleware (`app.add_middleware(…)`).

    Called once, before the first request. A route may use `predict_rows` and
    `Refusal` of `loopbook.serving`, and read the version that answers from
    `request.app.state.service.ready().servable`.
    """
