"""Exact numbers and units of metadata: `4.24` in JSON is 106/25 nm."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import Lengths, exact

# Limits of the absolute value of a length or scale: a light-year is 1e25 nm.
SMALLEST, LARGEST = 1e-30, 1e30
# numpy's and tensorstore's limit.
MAX_AXES = 32
_PREFIXES = {
    ("", ""): 9,
    ("k", "kilo"): 12,
    ("c", "centi"): 7,
    ("m", "milli"): 6,
    ("u", "micro"): 3,
    ("n", "nano"): 0,
    ("p", "pico"): -3,
    ("f", "femto"): -6,
}
# Decimal digits of a float that a few operations leave as they are, and of lengths as people choose
# them.
_SURE_DIGITS, _SHORT_DIGITS = 14, 11


def _nanometers() -> dict[str, Fraction]:
    table = {"a": Fraction(1, 10), "å": Fraction(1, 10)}
    table |= dict.fromkeys(("angstrom", "angstroms", "ångström"), Fraction(1, 10))
    table |= dict.fromkeys(("micron", "microns", "µm", "μm"), Fraction(1000))
    for (symbol, prefix), exponent in _PREFIXES.items():
        for name in (f"{symbol}m", *(f"{prefix}met{end}" for end in ("er", "re", "ers", "res"))):
            table[name] = Fraction(10) ** exponent
    return table


NANOMETERS = _nanometers()
"""Length of one unit in nm, by its name in lower case."""


def nanometers(unit: object, what: str) -> tuple[Fraction, str | None]:
    """Length of one `unit` in nm; with a note if the unit is missing or unknown (nm is taken)."""
    if unit is None or unit == "":
        return Fraction(1), f"{what} has no unit: nm is taken"
    factor = NANOMETERS.get(unit.lower()) if isinstance(unit, str) else None
    if factor is None:
        return Fraction(1), f"{what} has the unknown unit {shown(unit)}: nm is taken"
    return factor, None


def exact_number(value: object, what: str) -> Fraction:
    """A JSON number as the ratio that was meant: 4.24 is 106/25, 3.3333333333333335 is 10/3.

    A float is read as its shortest decimal, unless a ratio with a small denominator gives exactly
    the same float, or that decimal is a short one but for its last digits, which a writer's
    arithmetic has changed: 0.1 + 0.002, stored as 0.10200000000000001, is 0.102. Raises ArrayError,
    naming `what`, for anything that is not a finite number, and for numbers outside of the limits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArrayError(f"{what} holds {shown(value)}, which is not a number.")
    if value != value or value in (float("inf"), float("-inf")):
        raise ArrayError(f"{what} holds {value!r}, which is not a finite number.")
    if value and not SMALLEST <= abs(value) <= LARGEST:
        raise ArrayError(
            f"{what} holds {shown(value)}, which is not between {SMALLEST:g} and {LARGEST:g}."
        )
    decimal = exact(value)
    simple = decimal.limit_denominator(1000)
    if float(simple) == float(value):
        return simple
    if isinstance(value, int):
        return decimal
    short = exact(f"{value:.{_SURE_DIGITS}g}")
    return short if exact(f"{value:.{_SHORT_DIGITS}g}") == short else decimal


def exact_numbers(values: object, what: str) -> Lengths:
    """`exact_number` of each; raises ArrayError unless `values` is a list, one for each axis."""
    if not isinstance(values, list):
        raise ArrayError(f"{what} is {shown(values)}; a list of numbers is needed.")
    if len(values) > MAX_AXES:
        raise ArrayError(f"{what} has {len(values)} numbers; there are at most {MAX_AXES} axes.")
    return tuple(exact_number(value, what) for value in values)


def json_number(value: Fraction) -> int | float:
    """The ratio as JSON holds it: an integer where it is one."""
    return value.numerator if value.denominator == 1 else float(value)


def json_numbers(values: Sequence[Fraction]) -> list[int | float]:
    """`json_number` of each."""
    return [json_number(value) for value in values]


def scaled(values: Lengths, units: Sequence[object], what: str) -> tuple[Lengths, list[str]]:
    """Values in nm, given a unit for each, and the notes about units that were guessed."""
    found = [nanometers(unit, what) for unit in units]
    lengths = tuple(value * factor for value, (factor, _) in zip(values, found, strict=True))
    return lengths, list(dict.fromkeys(note for _, note in found if note))
