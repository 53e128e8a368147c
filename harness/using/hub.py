"""A trial's generator as a folder that model hubs take as it is: a card, weights, what they are and what they scored.

README.md           the model card: protocol, scores, intervals over the arm's seeds, spec, command to reproduce
model.safetensors   the generator's weights as they were scored, batch-norm statistics among them
generator.pt2       the same as a program of torch.export, which needs torch alone
config.json         what `load_generator` makes the network from, and what its input is
scores.json         protocol, scores, and the arm's means with their intervals
samples.png         the first of the samples that were scored
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import safetensors.torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from harness.analysis import results
from harness.analysis.effects import arm_mean, arm_values
from harness.analysis.wording import count, number, with_interval
from harness.errors import UserError
from harness.files import staged_folder, write_synced
from harness.metrics import BY_FEATURES, METRICS
from harness.spec import FOLDER, TrialSpec
from harness.storage.samples import GRID, to_png
from harness.using.generator import TrainedGenerator, trained_network
from harness.using.models import exported
from harness.using.trial import Place, Trial, command

CARD, WEIGHTS, CONFIG, SCORES = "README.md", "model.safetensors", "config.json", "scores.json"
KIND = "gan-ablation generator"
TASK = "unconditional-image-generation"


def write_folder(trial: Trial, generator: TrainedGenerator, weights: str, folder: Path) -> None:
    """Write the folder, whole or not at all; one that this wrote of the same trial is replaced.

    Args:
        trial: Whose generator it is.
        generator: Made from the trial.
        weights: Which of its weights these are, "ema" or "raw".
        folder: Where; its name becomes the model's.

    Raises:
        UserError: the folder holds something else, or the network cannot be exported.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())) and (held := _held(folder)) != trial.id:
        what = f"the generator of trial {held}" if held else "something else"
        raise UserError(f"{folder} holds {what}; name an empty or new folder with --out")
    arms = {place: _arm(trial, place) for place in trial.places}
    protocol = trial.protocol
    scored = weights == (protocol.weights if protocol else weights)
    config = {
        "kind": KIND,
        "trial_id": trial.id,
        "weights": weights,
        "input": {"name": "z", "shape": ["N", trial.spec.latent_dim], "distribution": "N(0, 1)", "dtype": "float32"},
        "output": {"shape": ["N", trial.spec.channels, *[trial.spec.resolution] * 2], "range": [-1, 1]},
        "latent_std": trial.spec.latent_std,
        "spec": {**trial.spec.to_dict(), "dataset": _dataset(trial.spec)},
    }
    scores = {
        "protocol_id": protocol.protocol_id if protocol else None,
        "protocol": protocol.to_dict() if protocol else None,
        "scores": trial.scores if scored else {},
        "arms": [
            {
                **{name: getattr(place, name) for name in ("study", "profile", "arm", "seed", "protocol_id")},
                "metrics": table.to_dict("records"),
            }
            for place, table in arms.items()
        ],
    }
    files = {
        CARD: str(_card(trial, weights, arms, folder.resolve().name, scored=scored)).encode(),
        WEIGHTS: safetensors.torch.save(dict(generator.network.state_dict()), {"format": "pt"}),
        CONFIG: _json(config),
        SCORES: _json(scores),
        "generator.pt2": exported(generator),
        "samples.png": to_png(generator.pictures(GRID * GRID).numpy()),
    }
    with staged_folder(folder, replace=True) as staging:
        for name, content in files.items():
            write_synced(staging / name, content)


def load_generator(folder: str | Path, *, code: str | Path | None = None) -> TrainedGenerator:
    """The generator in a folder that `export-model --to hub` wrote, wherever it was downloaded to.

    Args:
        folder: The folder.
        code: The user's own file that its network is from, if it is from one.

    Raises:
        UserError: no such folder, or something else in it.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if not isinstance(config, dict) or config.get("kind") != KIND:
            raise ValueError("config.json is of something else")
        state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
        spec = TrialSpec.from_dict(config["spec"])
        network = trained_network(spec, [Path(code)] if code else [])
        network.load_state_dict(state)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        why = str(getattr(error, "strerror", None) or error).splitlines()[0]
        raise UserError(f"{folder} is not a folder of `export-model --to hub` ({why})") from None
    return TrainedGenerator(network, spec)


def _held(folder: Path) -> str:
    """The trial whose generator the folder holds; "" if it holds something else."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        return str(config["trial_id"]) if config["kind"] == KIND else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _arm(trial: Trial, place: Place) -> pd.DataFrame:
    """Of each metric that the trial has: its own value, and the arm's mean with its interval over its seeds."""
    plan = results.require_plan(trial.store, place.study, place.profile)
    rows = results.of_plan(trial.store, plan, untrained=True)
    own = rows[(rows.trial_id == trial.id) & (rows.arm == place.arm)].iloc[0]
    found = []
    for name in (n for n in BY_FEATURES if n in rows and pd.notna(own[n])):
        values = arm_values(rows, place.arm, name)
        mean = arm_mean(values, name)
        found.append({"metric": name, "value": float(own[name]), "mean": mean.mean, "low": mean.low, "high": mean.high})
        found[-1]["seeds"] = len(values)
    return pd.DataFrame(found, columns=["metric", "value", "mean", "low", "high", "seeds"])


def _card(trial: Trial, weights: str, arms: Mapping[Place, pd.DataFrame], name: str, *, scored: bool) -> ModelCard:
    protocol, spec = trial.protocol, trial.spec
    results_of_hub = [
        EvalResult(
            task_type=TASK,
            dataset_type=_dataset(spec).rstrip(":"),
            dataset_name=f"{_dataset(spec).rstrip(':')} at {spec.resolution}×{spec.resolution}×{spec.channels}",
            metric_type=metric,
            metric_name=f"{METRICS[metric].label} (protocol {protocol.protocol_id})",
            metric_value=trial.scores[metric],
        )
        for metric in BY_FEATURES
        if scored and protocol and metric in trial.scores
    ]
    data = ModelCardData(
        model_name=name if results_of_hub else None,
        eval_results=results_of_hub or None,
        pipeline_tag=TASK,
        library_name="gan-ablation",
        tags=["gan", TASK, spec.architecture],
    )
    told = [f"# {name}", "", _first_words(trial, weights), "", "![samples](samples.png)", ""]
    told += ["## Scores", ""]
    if protocol and scored:
        told += [f"Protocol `{protocol.protocol_id}`: {protocol.describe()}.", ""]
        told += ["Scores under other protocols cannot be compared with these.", ""]
    else:
        told += ["These weights were not scored.", ""]
    for place, table in arms.items() if scored else ():
        told += _table(place, table)
    told += _to_reproduce(trial)
    told += ["## Use", "", *_use(spec), "## Spec", "", "```json", _json(spec.to_dict()).decode().strip(), "```", ""]
    text = "\n".join(told).replace(spec.dataset, _dataset(spec)) if spec.dataset.startswith(FOLDER) else "\n".join(told)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def _first_words(trial: Trial, weights: str) -> str:
    spec, which = trial.spec, "averaged" if weights == "ema" else "raw"
    trained = f"trained on {spec.kimg:g} thousand images" if spec.kimg else "not trained"
    at = "; ".join(f"arm “{p.arm}”, seed {p.seed}, of the study {p.study} ({p.profile})" for p in trial.places)
    return (
        f"A generator of {spec.resolution}×{spec.resolution} {'grey' if spec.channels == 1 else 'colour'} images "
        f"({spec.architecture}, {which} weights), {trained} of `{_dataset(spec)}`: trial `{trial.id}`"
        f"{f', {at}' if at else ''}. One trial of several seeds: what its arm is worth, the intervals say."
    )


def _table(place: Place, table: pd.DataFrame) -> list[str]:
    seeds = int(table.seeds.max()) if len(table) else 0
    head = f"The arm “{place.arm}” of {place.study} ({place.profile}), {count(seeds, 'seed')}"
    few = ". So few seeds show nothing" if seeds < 6 else ""
    rows = [
        f"| {METRICS[row['metric']].label} {METRICS[row['metric']].arrow} | {number(row['value'])} "
        f"| {with_interval(row['mean'], row['low'], row['high'])} |"
        for row in table.to_dict("records")
    ]
    heading = ["| metric | this trial | mean of the arm's seeds [95% interval] |", "|:--|--:|--:|"]
    return [f"{head}{few}.", "", *heading, *rows, ""]


def _to_reproduce(trial: Trial) -> list[str]:
    """The command that makes the trial again, and where it was made."""
    made = [f"{key} {trial.provenance[key]}" for key in ("torch", "python", "cpu", "gpu") if trial.provenance.get(key)]
    code = trial.provenance.get("commit", "")
    lines = ["## To reproduce", ""]
    if trial.places:
        place = trial.places[0]
        plan = results.require_plan(trial.store, place.study, place.profile)
        seeds = len({cell["seed"] for cell in plan["cells"]})
        lines += ["```sh", command(place, seeds), "```", ""]
        exact = "" if trial.provenance.get("gpu") else ", and on the same processor bit for bit"
        lines += [f"makes trial `{trial.id}` among the study's others{exact}."]
    else:
        lines += [f"No study of its store names trial `{trial.id}` any more; the spec below is what it is made from."]
    return [*lines, f"Made with commit `{code or 'unknown'}`{': ' if made else ''}{', '.join(made)}.", ""]


def _use(spec: TrialSpec) -> list[str]:
    own = ", code='THE FILE WITH ITS NETWORK'" if spec.code else ""
    return [
        "```python",
        "import harness  # of gan-ablation, installed from its repository",
        "",
        f'generator = harness.load_generator("PATH OF THIS FOLDER"{own})',
        "images = generator.sample(64, seed=0)  # the images that were scored: float32 in [-1, 1]",
        "```",
        "",
        "With torch alone:",
        "",
        "```python",
        "import torch",
        "",
        'generator = torch.export.load("generator.pt2").module()',
        f"images = generator(torch.randn(64, {spec.latent_dim}))  # the latent scale, {spec.latent_std:g}, is inside",
        "```",
        "",
    ]


def _dataset(spec: TrialSpec) -> str:
    """The data set's name, without the path of somebody's folder."""
    return FOLDER if spec.dataset.startswith(FOLDER) else spec.dataset


def _json(content: Mapping[str, Any]) -> bytes:
    """As JSON that everything reads: what is not finite becomes null."""
    return (json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
