"""A shipped architecture is one file and one entry: what it takes to add one, done to a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NETWORK = """
from architectures.contract import GanPair, NetworkSpec, idle_dropout


def defaults(resolution):
    return {"generator_depth": 1, "generator_width": 4, "generator_norm": "none", "generator_dropout": 0.0,
            "discriminator_depth": 1, "discriminator_width": 4, "discriminator_norm": "none",
            "discriminator_dropout": 0.0}


def refusals(network):
    yield from idle_dropout("flat", network, "discriminator", 2)
    if network.generator_depth > 1:
        yield "generator_depth", "is out of range; allowed: at most 1 for flat"


def build(**choices):
    from torch import nn

    network = NetworkSpec(**choices)
    shape = (network.channels, network.resolution, network.resolution)
    pixels = network.channels * network.resolution**2
    generator = nn.Sequential(nn.Linear(network.latent_dim, pixels), nn.Tanh(), nn.Unflatten(1, shape))
    return GanPair(generator, nn.Sequential(nn.Flatten(), nn.Linear(pixels, 1)))
"""
USE = """
import sys
from dataclasses import replace

from harness.errors import UserError
from harness.spec import TrialSpec, own_names
from studies.baselines import FC
from tests.unit.test_spec import VALUES

values = {**VALUES, **FC, "architecture": "flat", "generator_depth": 1, "discriminator_depth": 1,
          "discriminator_dropout": 0.0, "batch_size": 8, "kimg": 0.008}
spec = TrialSpec(**values)
assert spec.code == "" and own_names(values) == []
for change in ({"generator_depth": 2}, {"discriminator_dropout": 0.3}, {"mixed_batches": True},
               {"discriminator_norm": "none"}):
    try:
        replace(spec, **change)
    except UserError as error:
        print(error)
assert "torch" not in sys.modules, "reports would load it"

import torch

from harness.training.loop import train

images = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
print(sorted(train(spec, images).generator))
"""


def test_a_shipped_architecture_is_one_file(tmp_path: Path) -> None:
    package = Path(shutil.copytree(ROOT / "architectures", tmp_path / "architectures"))
    (package / "flat.py").write_text(NETWORK)
    registry = (package / "__init__.py").read_text()
    entry = '"fc": Architecture(fc.build, fc.defaults, fc.refusals),'
    assert entry in registry
    registry = registry.replace(entry, f"{entry}\n{entry.replace('fc', 'flat')}")
    (package / "__init__.py").write_text(registry.replace("import dc, fc,", "import dc, fc, flat,"))
    for other in ("harness", "studies"):  # which belong beside it
        shutil.copytree(ROOT / other, tmp_path / other, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "generator_depth=2 is out of range; allowed: at most 1 for flat",
        "discriminator_dropout=0.3 does nothing in flat at discriminator_depth below 2; allowed there: 0",
        "mixed_batches=True does nothing without batch norm in D; allowed with architecture='dc', "
        "discriminator_norm='own' and discriminator_depth above 1",
        "discriminator_norm='none' is what flat has anyway at discriminator_depth=1, one trial under two names; "
        "allowed with it: own, spectral",
        "['0.bias', '0.weight']",
    ]
