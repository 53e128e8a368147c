"""Numbers in words: the one way in which tables, sentences and figures tell them."""

import math


def with_interval(mean: float, low: float, high: float) -> str:
    """A mean as 12.3 [11.0, 13.9], as 12.3 [–] where there is no interval; a dash for nothing."""
    if math.isnan(mean):
        return "–"
    decimals = decimals_of(mean)
    ends = "–" if math.isnan(low) else f"{number(low, decimals)}, {number(high, decimals)}"
    return f"{number(mean, decimals)} [{ends}]"


def effect(mean: float, low: float, high: float, scale: str) -> str:
    """A ratio as ×1.20 [1.10, 1.31], a difference as +0.05 [+0.01, +0.09]; a dash for nothing, [–] for no interval.

    What is infinite, or a ratio of 0, comes of sides of which one has no finite value, and is told in words with the
    end of the interval that is a number.
    """
    if math.isnan(mean):
        return "–"
    ratio = scale == "ratio"
    digits = _ratio_decimals if ratio else decimals_of
    if math.isinf(mean) or (ratio and mean == 0):
        above = mean > 0
        end = low if above else high
        text = f"{'above' if above else 'below'} any {scale}"
        if math.isnan(end) or end == mean:
            return text
        if math.isinf(end) or (ratio and end == 0):
            return f"{text} (interval: every {scale})"
        return f"{text} (at {'least' if above else 'most'} {_effect_number(end, ratio, digits(end))})"
    decimals = digits(mean)
    text = [_effect_number(mean, ratio, decimals)]
    text += [_effect_number(end, ratio, decimals).removeprefix("×") for end in (low, high)]
    return f"{text[0]} [–]" if math.isnan(low) else f"{text[0]} [{text[1]}, {text[2]}]"


def p_value(p: float) -> str:
    """0.031, <0.001, 1; a dash for nothing."""
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p >= 0.1 else f"{p:.3f}"


def number(x: float, decimals: int | None = None) -> str:
    """About three digits: 1,234 · 123 · 12.3 · 1.23; a dash for nothing."""
    if math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    text = f"{x:z,.{decimals_of(x) if decimals is None else decimals}f}"  # z: no minus before what rounds to 0
    return text.replace("-", "−")


def count(n: int, what: str) -> str:
    """1 trial, 2 trials, 1,234 trials."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def agreeing(n: int, one: str, several: str) -> str:
    """The word that goes with so many: has where it is 1, else have."""
    return one if n == 1 else several


def duration(seconds: float) -> str:
    """A length of time in words: "40 s", "12 min", "3 h 20 min", "5 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 3 * 24 * 60:
        return f"{minutes / (24 * 60):.0f} days"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def seconds_left(elapsed: float, ended: int, running: int, waiting: int) -> float:
    """How long a run goes on at its pace so far, by which the trials that run are half done."""
    return elapsed / (ended + running / 2) * (waiting + running / 2)


def decimals_of(x: float) -> int:
    """Decimals for about three digits."""
    size = abs(x)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3


def _ratio_decimals(x: float) -> int:
    """Decimals of a ratio and its interval: two, but two digits of what is below a tenth."""
    return 2 if x >= 0.1 or x == 0 else min(4, 1 - math.floor(math.log10(x)))


def _effect_number(x: float, ratio: bool, decimals: int) -> str:
    if not ratio:
        return ("+" if x > 0 else "") + number(x, decimals)
    if x == 0:  # only where one side has no number at all: a level that was never reached, a diverged trial
        return "×0"
    if x < 1e-3 or 1000 <= x < math.inf:
        return f"×{x:.1e}"
    rounds_to_nothing = 2 * x < 10**-decimals
    return f"×{number(x, _ratio_decimals(x) if rounds_to_nothing else decimals)}"
