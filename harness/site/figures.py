"""The interactive figures of a site, as Vega-Lite specifications without their data and colours, and Vega itself.

Pages give the data and set the colours by light and dark. Altair checks the specifications as they are made;
vl-convert-python brings Vega, Vega-Lite and Vega-Embed as one file, so that nothing is loaded from a network.
"""

import importlib
import json
from typing import Any

from harness.errors import UserError
from harness.metrics import METRICS
from harness.reporting.tables import SCORES, heading

LICENCE = "/* Vega, Vega-Lite and Vega-Embed: BSD-3-Clause, University of Washington Interactive Data Lab. */\n"

PANELS = {
    "online FID": {"fid_online": "online FID"},
    "loss": {"d_loss": "D", "g_loss": "G"},
    "D's answers": {"d_real": "D(x), real", "d_fake": "D(G(z)), fake", "d_accuracy": "accuracy"},
}
"""Of a trial's curves: each panel's title -> column -> its name in the legend."""


def packages() -> tuple[Any, Any]:
    """Altair and vl_convert.

    Raises:
        UserError: one of them is not installed.
    """
    try:
        return importlib.import_module("altair"), importlib.import_module("vl_convert")
    except ImportError as error:
        raise UserError(
            f"the site's figures want {error.name}, which is not installed; install it with "
            "pip install 'gan-ablation[site]'"
        ) from None


def scripts() -> tuple[str, str]:
    """Two script files: Vega, and the specifications, which set SITE.figures."""
    altair, vl_convert = packages()
    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    specs = {name: _arms(altair, name) for name in SCORES} | {"curves": _curves(altair)}
    said = {name: f"The {METRICS[name].label} of arms: means and 95% intervals, as in the list" for name in SCORES}
    said["curves"] = "The curves of this trial; the table below has their numbers"
    made = {
        name: {**{k: v for k, v in spec.items() if k not in ("config", "datasets")}, "description": said[name]}
        for name, spec in specs.items()
    }
    return LICENCE + vl_convert.javascript_bundle(vl_version=version), f"SITE.figures = {json.dumps(made)};\n"


def _arms(alt: Any, name: str) -> dict[str, Any]:
    """Each arm's mean with its interval; a click leads to its study."""
    kind = {"type": "log"} if METRICS[name].scale == "ratio" else {"type": "linear", "zero": False}
    scale = alt.Scale(**kind, nice=False, padding=12)
    tooltip = [
        alt.Tooltip(field, type="nominal", title=title)
        for field, title in (
            ("arm", "arm"), ("study", "study"), ("seeds", "seeds"), ("shown", f"{heading(name)} [95% interval]"),
        )
    ]  # fmt: skip
    base = alt.Chart(alt.NamedData("arms")).encode(
        y=alt.Y("arm", type="nominal", sort=None, title=None), tooltip=tooltip, href=alt.Href("page", type="nominal")
    )
    x = alt.X("mean", type="quantitative", scale=scale, title=heading(name))
    interval = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low", type="quantitative", scale=scale, title=heading(name)), x2=alt.X2("high")
    )
    return alt.layer(interval, base.mark_point(filled=True, opacity=1).encode(x=x)).to_dict()


def _curves(alt: Any) -> dict[str, Any]:
    """Panels below each other over the images seen; the values under the pointer, in all of them at once."""
    columns = [column for panel in PANELS.values() for column in panel]
    x = alt.X("kimg", type="quantitative", title="thousand real images seen by D")
    tooltip = [alt.Tooltip(name, type="quantitative", format=".4~g") for name in ("kimg", "seconds", *columns)]
    here = alt.selection_point(name="here", fields=["kimg"], nearest=True, on="pointerover", clear="pointerout")
    moved = alt.selection_interval(name="moved", bind="scales", encodings=["x"], zoom="wheel![event.shiftKey]")
    panels = []
    for i, (title, named) in enumerate(PANELS.items()):
        base = alt.Chart(alt.NamedData("curves"))
        long = base.transform_fold(list(named), as_=["column", "value"]).transform_filter("isValid(datum.value)")
        names = f"{json.dumps(named)}[datum.column]"
        colour = alt.Color("curve", type="nominal", title=None, scale=alt.Scale(domain=list(named.values())))
        lines = long.transform_calculate(curve=names).mark_line(point=alt.OverlayMarkDef(size=18))
        lines = lines.properties(name=f"lines{i}").encode(
            x=x,
            y=alt.Y(
                "value", type="quantitative", title=title,
                scale=alt.Scale(**({"type": "log"} if "fid_online" in named else {"zero": False})),
            ),
            color=colour.legend(None) if len(named) == 1 else colour,
        )  # fmt: skip
        rule = (
            base.mark_rule(strokeWidth=1)
            .properties(name=f"rule{i}")
            .encode(x=x, tooltip=tooltip, opacity=alt.condition(here, alt.value(0.7), alt.value(0), empty=False))
        )
        panels.append(alt.layer(lines, rule).properties(height=170))
    spec = alt.vconcat(*panels).resolve_scale(color="independent", x="shared").to_dict()
    for i, named in enumerate(PANELS.values()):
        spec["vconcat"][i]["usermeta"] = {"columns": list(named)}  # a page leaves out panels without values
    return spec | {"params": [here.param.to_dict(), moved.param.to_dict()]}
