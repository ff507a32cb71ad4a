"""Units: what people take for one another, and how that shows in the values.

It decides which other unit a column's values may have come in. Only a unit
that has such a twin is suspected: a mark of 5 that comes as 11 is not pounds
for kilograms.
"""

import re

# (names, names, factor, offset): a value in the first unit is value * factor + offset in the second
TWINS = (
    (("square metres", "m2", "sqm", "sq m"), ("square feet", "ft2", "sqft", "sq ft"), 10.7639, 0),
    (("hectares", "ha"), ("acres", "ac"), 2.47105, 0),
    (("metres", "m"), ("feet", "ft"), 3.28084, 0),
    (("metres", "m"), ("kilometres", "km"), 0.001, 0),
    (("metres", "m"), ("centimetres", "cm"), 100, 0),
    (("metres", "m"), ("millimetres", "mm"), 1000, 0),
    (("centimetres", "cm"), ("millimetres", "mm"), 10, 0),
    (("centimetres", "cm"), ("inches", "in"), 0.393701, 0),
    (("millimetres", "mm"), ("inches", "in"), 0.0393701, 0),
    (("kilometres", "km"), ("miles", "mi"), 0.621371, 0),
    (("kilograms", "kg"), ("pounds", "lb", "lbs"), 2.20462, 0),
    (("kilograms", "kg"), ("grams", "g"), 1000, 0),
    (("kilograms", "kg"), ("tonnes", "t"), 0.001, 0),
    (("grams", "g"), ("ounces", "oz"), 0.035274, 0),
    (("litres", "l"), ("gallons", "gal"), 0.264172, 0),
    (("degrees Celsius", "celsius", "°c"), ("degrees Fahrenheit", "fahrenheit", "°f"), 1.8, 32),
    (("degrees Celsius", "celsius", "°c"), ("kelvin", "k"), 1, 273.15),
    (("kilometres an hour", "km/h", "kph"), ("miles an hour", "mph", "mi/h"), 0.621371, 0),
    (("metres a second", "m/s"), ("kilometres an hour", "km/h", "kph"), 3.6, 0),
    (("knots", "kn", "kt"), ("kilometres an hour", "km/h", "kph"), 1.852, 0),
    (("knots", "kn", "kt"), ("miles an hour", "mph", "mi/h"), 1.15078, 0),
    (("hectopascals", "hpa", "millibars", "mbar"), ("inches of mercury", "inhg"), 0.02953, 0),
    (("hectopascals", "hpa", "millibars", "mbar"), ("pascals", "pa"), 100, 0),
    (("milliseconds", "ms"), ("seconds", "s"), 0.001, 0),
    (("seconds", "s"), ("minutes", "min"), 1 / 60, 0),
    (("minutes", "min"), ("hours", "h"), 1 / 60, 0),
    (("hours", "h"), ("days", "d"), 1 / 24, 0),
    (("watts", "w"), ("kilowatts", "kw"), 0.001, 0),
    (("watt hours", "wh"), ("kilowatt hours", "kwh"), 0.001, 0),
    (("shares", "share"), ("per cent", "percent", "%"), 100, 0),
)
MONEY = {"$", "€", "£", "¥", "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "CNY", "INR", "BRL"}
MONEY |= {"MXN", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY", "ZAR", "KRW", "SGD", "HKD", "NZD"}
NEAR = 0.2  # the typical strange value is this near to the usual one in the other unit


def mistaken_for(unit: str | None, usual: float, came: float) -> str | None:
    """What values may have come in, as "metres for feet"; None where nothing is near.

    Parameters
    ----------
    unit : str or None
        The column's, as the contract says.
    usual, came : float
        The typical value, and the typical strange one.
    """
    near = [
        (abs(came / expected - 1), other)
        for other, expected in _in_others(unit, usual)
        if expected and abs(came / expected - 1) < NEAR
    ]
    return min(near)[1] if near else None


def _in_others(unit: str | None, usual: float) -> list[tuple[str, float]]:
    """The usual value in every unit that is taken for this one."""
    plain = _plain(unit or "")
    others = []
    for ones, twos, factor, offset in TWINS:
        if plain in map(_plain, ones):
            others.append((f"{twos[0]} for {ones[0]}", usual * factor + offset))
        if plain in map(_plain, twos):
            others.append((f"{ones[0]} for {twos[0]}", (usual - offset) / factor))
    if (unit or "").split(" ")[0] in MONEY:
        others += [("thousands for ones", usual / 1000), ("hundredths for ones", usual * 100)]
    if re.match(r"(thousand|million)s? ", unit or ""):
        others += [("ones for thousands", usual * 1000), ("ones for millions", usual * 1e6)]
    return others


def _plain(unit: str) -> str:
    """A unit as it is compared: metres and meters, m² and m2 are one."""
    plain = unit.strip().casefold().replace("²", "2").replace("meter", "metre")
    plain = plain.replace("liter", "litre").replace("per hour", "an hour").replace("foot", "feet")
    plain = {"square metre": "square metres", "degrees c": "°c", "degrees f": "°f"}.get(
        plain, plain
    )
    return plain if plain.endswith(("s", "%")) or len(plain) < 4 else f"{plain}s"
