"""Numbers in words: the one way in which tables, sentences and figures tell them."""

import math


def effect(mean: float, low: float, high: float, scale: str) -> str:
    """A ratio as ×1.20 [1.10, 1.31], a difference as +0.05 [+0.01, +0.09]; a dash for nothing."""
    if math.isnan(mean):
        return "–"
    if scale == "ratio":
        text = [_ratio(x) for x in (mean, low, high)]
        text[0] = "×" + text[0]
    else:
        decimals = decimals_of(mean)
        text = [("+" if x > 0 else "") + number(x, decimals) for x in (mean, low, high)]
    return text[0] if math.isnan(low) else f"{text[0]} [{text[1]}, {text[2]}]"


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
    return f"{x:,.{decimals_of(x) if decimals is None else decimals}f}".replace("-", "−")


def count(n: int, what: str) -> str:
    """1 trial, 2 trials."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def decimals_of(x: float) -> int:
    """Decimals for about three digits."""
    size = abs(x)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3


def _ratio(x: float) -> str:
    if x == 0:  # only where one side has no number at all: a level that was never reached, a diverged trial
        return "0"
    return number(x, 2) if x < 1000 or math.isinf(x) else f"{x:.1e}"
