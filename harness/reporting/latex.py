"""A formatted table as LaTeX."""

import pandas as pd

_LATEX = str.maketrans(
    {
        "<": "$<$",  # else another sign in LaTeX's own encoding
        ">": "$>$",
        "…": r"\ldots{}",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "×": r"$\times$",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "≤": r"$\le$",
        "∞": r"$\infty$",
        "σ": r"$\sigma$",
        "γ": r"$\gamma$",
        "Δ": r"$\Delta$",
        "³": "$^3$",
        "²": "$^2$",
        "·": r"$\cdot$",
        "→": r"$\to$",
    }
)
"""What plain LaTeX has no character for; applied after pandas has escaped the rest."""


def latex(table: pd.DataFrame) -> str:
    """A formatted table as LaTeX's tabular; its document needs the package booktabs and no other."""
    words = {"arm", "level", "claim", "verdict"}
    columns = "".join("l" if column in words else "r" for column in table.columns)
    text = table.replace("\n", " ", regex=True).to_latex(index=False, escape=True, column_format=columns)
    return "% needs \\usepackage{booktabs}\n" + text.translate(_LATEX)
