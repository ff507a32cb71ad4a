"""Questions: what a person is asked about a table that nobody has described.

It decides the questions, their order and what counts as an answer. A question
follows from the answers before it: the costs from the target's classes. What
cannot be is said, and asked again.
"""

from collections.abc import Callable
from dataclasses import replace

import typer

from loopbook.project.errors import SourceError
from loopbook.proposal.proposals import Proposal
from loopbook.proposal.wishes import Wishes

Ask = Callable[..., str | float]
Propose = Callable[[Wishes], Proposal]


def asked(wishes: Wishes, propose: Propose, ask: Ask = typer.prompt) -> Wishes:
    """What a person said, with the answers to what no value tells.

    Parameters
    ----------
    propose : callable
        The proposal that follows from wishes; raises SourceError where they cannot be.
    ask : callable
        Takes a question, `default` and `type`; returns the answer.
    """
    if not wishes.target:
        guess = propose(wishes).target.header
        question = "Which column is to be predicted? Or a comparison, such as: delay > 15"
        wishes = _until_it_can_be(
            lambda: replace(wishes, target=str(ask(question, default=guess)).strip()), propose
        )
    clock = propose(wishes).clock
    if clock and not wishes.time:
        told = ",".join(clock.headers)
        question = f"Is {told} when the event happened? Its name, another, or none"
        wishes = _until_it_can_be(lambda: timed(wishes, str(ask(question, default=told))), propose)
    proposal = propose(wishes)
    if proposal.clock and wishes.label_delay_days is None:
        question = "How many days after it is the target known?"
        days = _number(ask, question, default=float(proposal.delay_days))
        wishes = replace(wishes, label_delay_days=days)
    if proposal.aim.task == "binary" and wishes.costs is None:
        wishes = replace(wishes, costs=_costs(str(proposal.aim.keys["positive"]), ask))
    return wishes


def timed(wishes: Wishes, text: str) -> Wishes:
    """Wishes with the columns that `text` names as event time; `none` is no time."""
    times = tuple(part.strip() for part in text.split(",") if part.strip())
    is_none = times == ("none",)
    return replace(wishes, time=() if is_none else times, no_time=is_none)


def _until_it_can_be(answer: Callable[[], Wishes], propose: Propose) -> Wishes:
    while True:
        wishes = answer()
        try:
            propose(wishes)
        except SourceError as reason:
            typer.echo(f"  {reason}")
        else:
            return wishes


def _number(ask: Ask, question: str, default: float) -> float:
    while True:
        value = float(ask(question, default=default, type=float))
        if 0 <= value < float("inf"):
            return value
        typer.echo(f"  {value:g}: expected a number from 0 on.")


def _costs(positive: str, ask: Ask) -> tuple[float, float] | None:
    wrong = _number(ask, f"What does it cost to answer {positive} wrongly?", default=1.0)
    missed = _number(ask, f"And to miss {positive}?", default=1.0)
    return None if wrong == missed or not wrong or not missed else (wrong, missed)
