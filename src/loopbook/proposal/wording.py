"""Wording: what a header says of its column, to the eye of a person.

It decides names, units and meanings from headers alone, and which words in them
speak of a code, an identifier, a time or a target. A name is never a proof: it
settles what the values leave open.
"""

import re
import unicodedata
from collections.abc import Iterable

from loopbook.project.names import (
    ATTRIBUTES,
    LONGEST,
    OF_HISTORY,
    OWN,
    REQUESTS,
    is_name,
    plain_header,
    safe_name,
)

UNITS = {
    "mm": "millimetres", "cm": "centimetres", "m": "metres", "km": "kilometres", "mi": "miles",
    "miles": "miles", "inches": "inches", "ft": "feet", "feet": "feet", "g": "grams",
    "kg": "kilograms", "lb": "pounds", "lbs": "pounds", "oz": "ounces", "m2": "square metres",
    "sqm": "square metres", "qm": "square metres", "sqft": "square feet", "ft2": "square feet",
    "ha": "hectares", "acres": "acres", "l": "litres", "ml": "millilitres", "gal": "gallons",
    "usd": "USD", "eur": "EUR", "gbp": "GBP", "chf": "CHF", "dollars": "USD", "euro": "EUR",
    "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "%": "per cent", "pct": "per cent",
    "percent": "per cent", "seconds": "seconds", "secs": "seconds", "minutes": "minutes",
    "mins": "minutes", "hours": "hours", "days": "days", "weeks": "weeks", "months": "months",
    "years": "years", "mph": "miles an hour", "kph": "kilometres an hour", "kmh": "kilometres an hour",
    "celsius": "degrees Celsius", "fahrenheit": "degrees Fahrenheit", "kwh": "kilowatt hours",
    "kw": "kilowatts", "hpa": "hectopascals", "lat": "degrees", "latitude": "degrees", "lon": "degrees",
    "lng": "degrees", "long": "degrees", "longitude": "degrees", "year": "year", "yr": "year",
}  # fmt: skip
SHORT = {"m", "g", "l", "$", "€", "£", "¥", "%"}  # a unit only in brackets, or last after others
CODES = {
    *("zip", "zipcode", "postal", "postcode", "plz", "code", "cd", "codes", "id", "ids", "uid", "key"),
    *("type", "class", "category", "cat", "group", "region", "district", "county", "state", "country"),
    *("station", "store", "shop", "branch", "dept", "department", "sector", "cluster", "zone", "ward"),
    *("sku", "product", "item", "account", "fips", "iso", "icd", "naics", "sic", "site", "plant"),
    *("customer", "user", "client", "patient", "subject", "vendor", "supplier", "driver", "machine"),
    *("device", "sensor", "gender", "sex", "race", "ethnicity", "religion", "brand", "origin"),
    # one thing, whose number is its name
    *("flight", "train", "bus", "vehicle", "truck", "route", "gate", "terminal", "airport", "airline"),
    *("carrier", "batch", "ticket", "invoice", "policy", "tract", "precinct", "city", "village", "town"),
    *("hospital", "clinic", "agent", "agency", "employee", "member", "player", "team", "league"),
    *("provider", "merchant", "seller", "buyer", "warehouse", "depot", "channel", "occupation"),
    *("kind", "manufacturer", "make", "language", "currency"),
}  # fmt: skip
# words that end in "id" and name nothing
NO_IDENTIFIER = {
    *("paid", "unpaid", "prepaid", "bid", "grid", "valid", "invalid", "humid", "acid", "solid", "fluid"),
    *("liquid", "rapid", "covid", "said", "rigid", "aid", "kid", "mid", "lipid", "hybrid", "void", "lid"),
    *("thyroid", "steroid", "android", "carotenoid", "arid", "raid", "laid", "avoid", "amid", "squid"),
}  # fmt: skip
COUNTS = {"count", "num", "number", "n", "nr", "no", "total", "qty", "quantity", "days", "size"}
IDENTIFIERS = {"id", "ids", "uid", "uuid", "guid", "key", "index", "rownames", "rowname", "serial"}
ROW_NAMES = {
    "",
    "unnamed 0",
    "unnamed",
    "index",
    "rownames",
    "rowname",
    "row",
    "row id",
    "row number",
    "x",
}
RANKS = {"rank", "ranking", "place", "position", "pos", "rang", "seed"}
TIMES = {
    *("date", "time", "timestamp", "datetime", "ts", "day", "dt", "when", "created", "opened", "started"),
    *("start", "begin", "datum", "zeit", "tag", "fecha", "jour", "data", "month", "dteday", "at", "hour"),
    *("on", "occurred", "ordered", "sold", "sale", "order", "departure", "pickup", "measured"),
}  # fmt: skip
LATER = {
    *("end", "ended", "closed", "close", "finish", "finished", "delivered", "delivery", "due", "paid"),
    *("updated", "modified", "resolved", "cancelled", "returned", "dropoff", "arrival", "completed"),
    *("discharge", "until", "expiry", "expires", "last", "settled", "deleted", "exit", "to"),
}  # fmt: skip
BEFORE = {"birth", "born", "dob", "birthday", "founded", "built", "hired", "joined", "registered"}


def words(header: str) -> list[str]:
    """The words of a header in lower case: `Avg. Area` and `avgArea` are avg, area."""
    plain = unicodedata.normalize("NFKC", header)
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    plain = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", plain)
    return [word for word in re.split(r"[^\w²³$€£¥%]+|_", plain.lower()) if word]


def names_of(headers: Iterable[str]) -> dict[str, str]:
    """A name for each header: itself where it is one, else the nearest; no two alike."""
    taken: set[str] = set()
    found = {}
    for header in headers:
        name = header if is_name(header) else safe_name(header)
        if name in OWN | REQUESTS | ATTRIBUTES | OF_HISTORY or name.startswith("predicted_"):
            name = f"{name}_value"
        first, count = name[: LONGEST - 4], 2
        while plain_header(name).lower() in taken:
            name, count = f"{first}_{count}", count + 1
        taken.add(plain_header(name).lower())
        found[header] = name
    return found


def free_name(name: str, taken: Iterable[str]) -> str:
    """A name for a column that is made, which none of the table's has; SQL knows no capitals."""
    names = {text.lower() for text in taken}
    while name.lower() in names:
        name = f"made_{name}"
    return name


def unit_of(header: str, sign: str = "") -> str | None:
    """The unit that a header or the signs around its values name."""
    if sign:
        return UNITS.get(sign.lower(), sign)
    bracketed = re.search(r"[\[(]\s*([^\])]+?)\s*[\])]\s*$", header)
    if bracketed:
        text = bracketed[1].strip().lower().replace("²", "2")
        return UNITS.get(text, bracketed[1].strip() if len(text) <= 12 else None)
    found = words(header)
    if not found:
        return None
    last = found[-1].replace("²", "2")
    if last in UNITS and (last not in SHORT or len(found) > 1):
        return UNITS[last]
    return UNITS.get(found[0]) if found[0] in ("sqft", "lat", "long", "yr", "year", "pct") else None


def meaning_of(header: str) -> str:
    """A header as a sentence of its own: nothing more is known."""
    plain = " ".join(words(header)) or "column without a header"
    return f"{plain[0].upper()}{plain[1:]}."


def is_code(header: str) -> bool:
    """Whether a header speaks of a code, so that its number is no amount."""
    found = words(header)
    if not found or found[0] in COUNTS:
        return False
    return found[-1] in CODES | {"nr", "no"} or (found[0] in ("zip", "postal", "fips"))


def is_identifier(header: str) -> bool:
    """Whether a header says that its values name rows or things."""
    found = words(header)
    if not found:
        return False
    last = found[-1]
    return (
        last in IDENTIFIERS
        or found == ["no"]
        or (last.endswith("id") and last not in NO_IDENTIFIER)
    )


def is_row_name(header: str) -> bool:
    return " ".join(words(header)) in ROW_NAMES


def is_rank(header: str) -> bool:
    """Whether a header says that its numbers are an order of merit."""
    return bool(set(words(header)) & RANKS)


def time_rank(header: str) -> int:
    """How much a header speaks of when something happened: 2 much, 0 nothing, below it not so."""
    found = set(words(header))
    if found & BEFORE:
        return -2
    if found & LATER:
        return -1
    if found & TIMES or any(w.endswith(("date", "time", "day", "datum")) for w in found):
        return 2
    return 0
