"""Times: in which forms a column of texts writes days and instants.

It decides the formats that read nearly all of them, one or several, and names
another that would read them as well. Pure.
"""

import polars as pl

from loopbook.project.clock import TIME
from loopbook.proposal.forms import Form, as_times

NEARLY_ALL = 0.98
MOST_TEXTS = 3_000  # that formats are tried on
MOST_FORMATS = 4
CLOCK = ("", " %H:%M:%S", " %H:%M", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", " %H:%M:%S%.f")
DAYS = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y"),
    *("%Y.%m.%d", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%b %d %Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d-%b-%y", "%Y%m%d"),
)
MONTHS = ("%Y-%m", "%b %Y", "%B %Y", "%m/%Y", "%Y/%m")
LIKE = {"%d": r"\d{1,2}", "%m": r"\d{1,2}", "%Y": r"\d{4}", "%y": r"\d{2}", "%b": "[A-Za-z]{3,4}"}
LIKE |= {"%B": "[A-Za-z]{3,9}", "%H": r"\d{1,2}", "%I": r"\d{1,2}", "%M": r"\d{2}", "%S": r"\d{2}"}
LIKE |= {"%p": "[AaPp][Mm]", "%.f": r"\.\d+"}


def time_form(counted: pl.DataFrame) -> Form | None:
    """The form of texts that are times, or None.

    Parameters
    ----------
    counted : polars.DataFrame
        Each `text`, and in how many rows it stands (`n`).
    """
    counted = counted.head(MOST_TEXTS)
    texts, rows = counted["text"], counted["n"]
    if not texts.str.contains(r"\d{2}").mean() >= NEARLY_ALL:
        return None
    total = rows.sum()
    if rows.filter(texts.str.contains(TIME)).sum() >= NEARLY_ALL * total:
        return Form("time", note="written as ISO 8601")
    formats = _formats(texts, rows, total)
    if not formats:
        return None
    doubtful = _other(formats[0])
    is_doubtful = doubtful and _reads(texts, doubtful).filter(_reads(texts, formats[0])).all()
    if is_doubtful:
        formats, doubtful = _likelier(texts, formats, doubtful)
    return Form(
        "time",
        formats=tuple(formats),
        doubtful=doubtful if is_doubtful else "",
        note=f"written as {' or '.join(formats)}",
    )


def _formats(texts: pl.Series, rows: pl.Series, total: int) -> list[str]:
    """The fewest formats that together read nearly all, the commonest first."""
    left = pl.repeat(True, texts.len(), eager=True)
    chosen: list[str] = []
    for _ in range(MOST_FORMATS):
        best, most = None, 0
        for time_format in _plausible(texts.filter(left).head(200)):
            count = rows.filter(left & _reads(texts, time_format)).sum()
            if count > most:
                best, most = time_format, count
        if best is None or most < 0.005 * total:
            break
        chosen.append(best)
        left &= ~_reads(texts, best)
        if rows.filter(~left).sum() >= 0.999 * total:
            break
    return chosen if rows.filter(~left).sum() >= NEARLY_ALL * total else []


def _plausible(texts: pl.Series) -> list[str]:
    """Formats that some of the texts look like."""
    all_formats = [day + clock for day in DAYS for clock in CLOCK] + list(MONTHS)
    return [f for f in all_formats if texts.str.contains(_pattern(f)).any()]


def _pattern(time_format: str) -> str:
    pattern = time_format.replace(".", r"\.").replace(r"%\.f", "%.f")
    for part, like in LIKE.items():
        pattern = pattern.replace(part, like)
    return f"^{pattern}$"


def _reads(texts: pl.Series, time_format: str) -> pl.Series:
    like = texts.str.contains(_pattern(time_format))
    if "%d" not in time_format:  # a month is a day in no parser
        months = texts + " 01"
        return like & as_times(months, f"{time_format} %d").is_not_null()
    return like & as_times(texts.set(~like, None), time_format).is_not_null()


def _other(time_format: str) -> str:
    """The same with day and month the other way round."""
    if "%d" not in time_format or "%m" not in time_format or time_format.startswith("%Y"):
        return ""
    return time_format.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")


def _likelier(texts: pl.Series, formats: list[str], other: str) -> tuple[list[str], str]:
    """Of two readings the one under which the times lie closer together."""
    one, two = as_times(texts, formats[0]), as_times(texts, other)
    spans = [times.max() - times.min() for times in (one, two)]
    if spans[1] < spans[0] or (spans[1] == spans[0] and "%p" in other and other.startswith("%m")):
        # with am and pm the month stands first
        return [other, *formats[1:]], formats[0]
    return formats, other
