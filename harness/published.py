"""What a paper published of a study's arms: a YAML file beside the study, refused in one line before work starts.

By example:

    source: Huang et al. 2024, table 1
    protocol: 1,000 modes of stacked MNIST; one run an arm; networks and budget of the paper
    values:
      - {arm: rpgan-r1-r2, metric: modes, value: 1000}
      - {arm: gan-r1, metric: modes, value: diverged}
      - {arm: gan-r1-r2, metric: modes, value: 693, source: "the same, figure 2"}

Between braces, text with a comma stands in quotes. A value's own source and protocol go before the file's. "diverged"
stands where the paper says that training failed.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError, unknown_name
from harness.metrics import METRICS, is_metric

KEYS, VALUE_KEYS = ("source", "protocol", "values"), ("arm", "metric", "value", "source", "protocol")
DIVERGED = "diverged"
LARGEST = 1e300  # of a number: what is not smaller is no measurement, and not-a-number stands for "diverged" inside


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published value."""

    arm: str
    metric: str  # a key of METRICS
    value: float  # NaN where training diverged
    source: str
    protocol: str  # under what it was measured, in words

    @property
    def diverged(self) -> bool:
        """Whether the paper says that training failed."""
        return math.isnan(self.value)


def read_published(path: Path | str | None, arms: Collection[str]) -> tuple[Published, ...]:
    """The values in that file, in its order; none for None.

    Args:
        path: Of the file.
        arms: The names that there are.

    Raises:
        UserError: the file cannot be read, is no YAML, or holds something else; an unknown arm or metric, or one twice.
    """
    if path is None:
        return ()
    content, found = _content(path), list[Published]()
    shared = {key: content.get(key, "") for key in ("source", "protocol")}
    values = content.get("values")
    if not isinstance(values, list) or not values:
        raise UserError(f"{path}: values={values!r:.60} is not possible; allowed: a list of at least one value")
    for i, value in enumerate(values, start=1):
        at = f"{path}, value {i}"
        if not isinstance(value, dict):
            raise UserError(f"{at}: {value!r:.60} is not possible; allowed: {{arm: ..., metric: ..., value: ...}}")
        value = {**shared, **value}
        _refuse_keys(at, value, VALUE_KEYS)
        if value["arm"] not in arms:
            raise unknown_name(f"arm in {at}:", value["arm"], arms)
        if not is_metric(str(value["metric"])):
            raise unknown_name(f"metric in {at}:", value["metric"], METRICS)
        number, (lowest, highest) = value["value"], METRICS[value["metric"]].limits
        if number == DIVERGED:
            number = math.nan
        elif isinstance(number, bool) or not isinstance(number, int | float) or not -LARGEST < number < LARGEST:
            raise UserError(f"{at}: value={number!r:.60} is not possible; allowed: a number, or {DIVERGED}")
        elif not lowest <= number <= highest:  # percentages, for example
            allowed = f"from {lowest:g} to {highest:g}, as {value['metric']} is measured here"
            raise UserError(f"{at}: value={number!r} is out of range; allowed: {allowed}")
        for key in ("source", "protocol"):
            if not isinstance(value[key], str) or not value[key].strip():
                raise UserError(f"{at}: {key}={value[key]!r:.60} is not possible; allowed: where it is from, in words")
        if any((one.arm, one.metric) == (value["arm"], value["metric"]) for one in found):
            raise UserError(f"{at}: {value['metric']} of {value['arm']} stands here twice; leave one of them out")
        found.append(Published(**{**value, "value": float(number)}))
    return tuple(found)


def _content(path: Path | str) -> Mapping[str, Any]:
    import yaml  # where there is something to read: it takes a moment to load

    class Loader(yaml.SafeLoader):
        """YAML, where a key that stands twice is an error and not the last one's value."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names: list[Any] = []
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (name := self.construct_object(key, deep=True)) in names:
                    raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice", key.start_mark)
                names.append(name)
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"published values cannot be read from {path}: {reason}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # the latter two of values that are not as they are tagged
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{at} is no YAML: {problem}; mend it there") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {content!r:.60}; allowed: the keys {', '.join(KEYS)}")
    for key in content:
        if key not in KEYS:
            raise unknown_name(f"key in {path}:", key, KEYS)
    return content


def _refuse_keys(at: str, value: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in value:
        if key not in keys:
            raise unknown_name(f"key in {at}:", key, keys)
    for key in keys:
        if key not in value:
            raise UserError(f"{at} lacks {key!r}; give it all of: {', '.join(keys)}")
