"""Texts: which form a column of texts has, found out from the texts themselves.

It decides what nearly all of them are: a number as some country writes it, with
a currency or a unit, a time, a truth value, or none of these. Pure: it knows no
table and no contract.
"""

import re
from dataclasses import replace

import polars as pl

from loopbook.data.single_values import SPACES, TRUTHS
from loopbook.project.clock import TIME
from loopbook.proposal.forms import UNICODE_SPACES, Form, Replacements
from loopbook.proposal.times import time_form

# What people write where there is nothing; the words only where the others are no words.
SIGNS = (
    *("na", "n/a", "n.a.", "#n/a", "#na", "nan", "null", "(null)", "<na>", "-", "--", "---", "?"),
    *(".", "..", "...", "\\n", "–", "—", "#value!", "#ref!", "#div/0!"),
    *("0000-00-00", "0000-00-00 00:00:00", "00/00/0000", "00.00.0000"),
)
WORDS = ("none", "nil", "missing", "unknown", "not available", "not applicable", "tbd", "void")
WORDS += ("don't know", "dont know", "refused", "not stated", "not reported", "not recorded")
WORDS += ("no answer", "prefer not to say", "unspecified", "undefined")
NEARLY_ALL = 0.98  # of the texts, so that a few slips do not make a number a word
CURRENCIES = "$€£¥₹₽₩₺"
CODES = ("USD", "EUR", "GBP", "CHF", "JPY", "CAD", "AUD", "SEK", "NOK", "DKK", "INR", "CNY", "PLN")
MAGNITUDES = {"k": "e3", "K": "e3", "M": "e6", "m": "e6", "B": "e9", "bn": "e9"}
TRUE_WORDS = {
    *("yes", "true", "ja", "oui", "si", "sí", "sim", "vrai", "wahr", "vero", "verdadero", "tak"),
    *("da", "evet", "y", "t", "j", "o", "on", "enabled", "present", "positive", "x", "✓", "1"),
}
FALSE_WORDS = {
    *("no", "false", "nein", "non", "não", "nao", "faux", "falsch", "falso", "nie", "ne", "n"),
    *("hayır", "hayir", "f", "off", "disabled", "absent", "negative", "✗", "0"),
}
# each convention: its numbers, and how they become plain; in the order in which they are tried
CONVENTIONS: tuple[tuple[str, str, Replacements], ...] = (
    ("plain", r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", ()),
    ("1,234.5", r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?", ((",", ""),)),
    ("1234,5", r"\d*(?:,\d+)?", ((",", "."),)),
    ("1.234,5", r"(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d+)?", ((".", ""), (",", "."))),
    ("1 234.5", r"(?:\d{1,3}(?: \d{3})+|\d+)(?:\.\d+)?", ()),
    ("1 234,5", r"(?:\d{1,3}(?: \d{3})+|\d+)(?:,\d+)?", ((",", "."),)),
    ("1'234.5", r"(?:\d{1,3}(?:['’]\d{3})+|\d+)(?:\.\d+)?", (("'", ""), ("’", ""))),
)  # fmt: skip
COMMAS = ("1234,5", "1.234,5", "1 234,5")  # conventions with a decimal comma
CURRENCY = rf"[{CURRENCIES}]|{'|'.join(CODES)}"
DECORATED = (
    rf"^(\(?)\s*({CURRENCY})?\s*([+-]?)\s*({CURRENCY})?\s*"
    rf"(\d[\d.]*[eE][+-]?\d+|\d[\d.,'’ ]*?|\.\d+)\s*({CURRENCY}|%|‰|°?[A-Za-zµ²³/]{{1,8}}\d?|°)?(\)?)$"
)


def form_of(texts: pl.Series, *, is_comma: bool | None = None) -> Form:
    """The form of a column of texts; those without a value do not count.

    Parameters
    ----------
    is_comma : bool, optional
        Whether other columns of the file write a comma before decimals; it
        settles what `1.234` and `1,234` are.
    """
    plain = texts.drop_nulls().str.strip_chars(SPACES)
    counted = plain.filter(plain != "").value_counts(sort=True, name="n")
    counted.columns = ["text", "n"]
    lower = counted["text"].str.to_lowercase()
    is_sign, is_word = lower.is_in(SIGNS), lower.is_in(WORDS)
    left = counted.filter(~(is_sign | is_word))
    nulls = tuple(counted.filter(is_sign | is_word)["text"])
    signs = tuple(counted.filter(is_sign)["text"])
    if left.is_empty():
        return Form("text", nulls=signs)
    for look in (_truth_form, _number_form, time_form):
        form = look(left, is_comma) if look is _number_form else look(left)
        if form is not None:
            # a truth value of words may have a third word
            if form.kind == "boolean" and any(t.lower() in WORDS for t in nulls):
                break
            return form.without(nulls)
    return Form("text", nulls=signs)


def _truth_form(counted: pl.DataFrame) -> Form | None:
    words = {text.lower() for text in counted["text"].head(9)}
    if counted.height > 8 or len(words) > 4 or words <= {"1"} or words <= {"0"}:
        return None
    yes, no = words & TRUE_WORDS, words & FALSE_WORDS
    if words != yes | no or yes & no or not yes or not no:
        return None
    if any(word in TRUTHS and TRUTHS[word] != (word in yes) for word in words):
        return None  # "o" is yes in French, and "on" elsewhere
    more = tuple((word, word in yes) for word in sorted(words) if word not in TRUTHS)
    return Form("boolean", truths=more, note=f"written {' and '.join(sorted(words))}")


def _number_form(counted: pl.DataFrame, is_comma: bool | None) -> Form | None:
    total = counted["n"].sum()
    whole = counted["text"].str.contains(r"^[+-]?\d+$")
    if _share(counted, whole, total) == 1:
        codes = counted["text"].str.contains(r"^[+-]?0\d")
        if codes.any():
            return Form("text", note="has leading zeros, so it is a code")
        return Form("integer")
    plain = counted["text"].cast(pl.Float64, strict=False).is_not_null()
    if _share(counted, plain, total) >= NEARLY_ALL and not (is_comma and _are_thousands(counted)):
        is_whole = counted["text"].filter(plain).str.contains(r"^[+-]?\d+(\.0+)?$").all()
        return Form("integer" if is_whole else "number")
    spaced = counted["text"]
    for space in UNICODE_SPACES:
        spaced = spaced.str.replace_all(space, " ", literal=True)
    parts = spaced.str.extract_groups(DECORATED).struct.unnest()
    parts = parts.rename(
        dict(
            zip(
                parts.columns,
                ["open", "before", "sign", "front", "body", "back", "close"],
                strict=False,
            )
        )
    )
    counted = pl.concat([counted, parts], how="horizontal")
    matched = counted.filter(pl.col("body").is_not_null())
    if matched["n"].sum() < NEARLY_ALL * total:
        return None
    return _decorated(matched, total, is_comma)


def _are_thousands(counted: pl.DataFrame) -> bool:
    """Whether all have the form 1.234, which is a number of either kind."""
    return bool(counted["text"].str.contains(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$").all())


def _share(counted: pl.DataFrame, mask: pl.Series, total: int) -> float:
    return counted["n"].filter(mask).sum() / total


def _decorated(matched: pl.DataFrame, total: int, is_comma: bool | None) -> Form | None:
    """Numbers with signs around them, if all have the same."""
    units, magnitudes = _units(matched)
    if units is None:
        return None
    bodies = matched["body"]
    shares = {
        name: _share(matched, bodies.str.contains(rf"^{pattern}$"), total)
        for name, pattern, _ in CONVENTIONS
    }
    name = _convention(bodies, shares, is_comma)
    if name is None:
        return None
    taken: dict[str, str] = dict.fromkeys(sorted(units, key=len, reverse=True), "")
    if (matched["open"] == "(").any():
        taken |= {"(": "-", ")": ""}
    if bodies.str.contains(" ").any() or units:
        taken |= dict.fromkeys((" ", *(s for s in UNICODE_SPACES if _has(matched["text"], s))), "")
    replacements = (*taken.items(), *next(r for n, _, r in CONVENTIONS if n == name))
    replacements += tuple((sign, MAGNITUDES[sign]) for sign in magnitudes)
    decimal = "," if name in COMMAS else "."
    is_whole = not _has(bodies, decimal) and not magnitudes and "%" not in units
    is_whole &= not bodies.str.contains("[eE]").any()
    shown = sorted(units)
    return Form(
        "integer" if is_whole else "number",
        replacements=replacements,
        unit=shown[0] if len(shown) == 1 else "",
        note=_told(name, shown, magnitudes),
    )


def _has(texts: pl.Series, sign: str) -> bool:
    return bool(texts.str.contains(sign, literal=True).any())


def _told(name: str, units: list[str], magnitudes: list[str]) -> str:
    parts = [f"written as {name}"] if name != "plain" else []
    parts += [f"with {', '.join([*units, *magnitudes])}"] if units or magnitudes else []
    return " ".join(parts)


def _units(matched: pl.DataFrame) -> tuple[set[str] | None, list[str]]:
    """What stands around numbers: currencies and one unit; magnitudes; None where they differ."""
    around = {
        sign
        for name in ("before", "front", "back")
        for sign in matched[name].drop_nulls().unique()
        if sign
    }
    money = {sign for sign in around if sign in CURRENCIES or sign in CODES}
    others = around - money
    magnitudes = sorted(others & set(MAGNITUDES))
    if len(magnitudes) > 1 or (magnitudes and money):
        others -= set(magnitudes)
    else:
        magnitudes = []
    if len(money) > 1 or len(others) > 1:
        return None, []
    # a letter behind some numbers is a code (5a, 5b), and behind all of them a unit
    back = matched.filter(pl.col("back").is_in(list(others)))["n"].sum()
    if others and not others <= {"%", "‰", "°"} and back < NEARLY_ALL * matched["n"].sum():
        return None, []
    return money | others, magnitudes


def _convention(bodies: pl.Series, shares: dict[str, float], is_comma: bool | None) -> str | None:
    """Which convention reads nearly all; of several, what the file's other columns say."""
    best = max(shares.values())
    if best < NEARLY_ALL:
        return None
    fitting = [name for name, share in shares.items() if share >= max(NEARLY_ALL, best - 1e-3)]
    if is_comma and fitting[0] == "plain" and "1.234,5" in fitting:
        return "1.234,5"
    if is_comma and "1234,5" in fitting:
        return "1234,5"
    return fitting[0]


def is_comma_of(forms: list[Form]) -> bool | None:
    """What the columns that leave no doubt say about the comma; None where none does."""
    notes = [re.sub(r"^written as (\S+).*$", r"\1", form.note) for form in forms]
    commas = sum(note in COMMAS for note in notes)
    return True if commas else None


def is_iso(texts: pl.Series) -> bool:
    """Whether nearly all texts are times that a contract reads as they are."""
    return bool(texts.str.contains(TIME).mean() >= NEARLY_ALL)


def with_sentinels(form: Form, values: pl.Series) -> Form:
    """A number's form, with the impossible number that stands for no value, if there is one.

    -999, 9999 and the like count where they stand alone, far from all others.
    """
    if form.kind not in ("integer", "number") or (form.nulls and form.sentinels):
        return form
    numbers = values.drop_nulls()
    if numbers.len() < 30:
        return form
    found = []
    for edge in (numbers.min(), numbers.max()):
        if abs(edge) not in (99, 999, 9999, 99999, 999999) or numbers.n_unique() < 5:
            continue
        others = numbers.filter(numbers != edge)
        times = numbers.len() - others.len()
        low, high = others.quantile(0.005), others.quantile(0.995)
        spread = max(high - low, abs(high), abs(low), 1e-9)
        is_far = edge < others.min() - 2 * spread or edge > others.max() + 2 * spread
        is_impossible = edge < 0 <= others.min()
        if times >= 3 and (is_far or is_impossible):
            found.append(float(edge))
    return replace(form, sentinels=tuple(found)) if found else form
