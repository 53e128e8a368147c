"""What a worker loads: every library in it costs each process of a run seconds and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch._dynamo", "sympy", "matplotlib", "scipy.stats", "scipy.signal", "sklearn", "timm", "IPython", "seaborn")
WORKER = """
import gc, sys
import harness.execution.worker
assert gc.isenabled() and gc.get_freeze_count() > 100_000 and gc.get_count()[2] == 0, "modules are searched for garbage"
import torch
from harness.training.state import Adam

parameter = torch.nn.Parameter(torch.ones(3))
adam = Adam([parameter], fused=True)
parameter.sum().backward()
adam.step()
adam.zero_grad()
print(*sorted(name for name in {heavy} if name in sys.modules))
"""
FIDS = """
import warnings, torch
from harness.scoring.lean import lean_fid
from torchvision.ops import RoIAlign  # all of torchvision is there
lean = lean_fid()
import torchmetrics
from torchmetrics.image.fid import FrechetInceptionDistance as usual

warnings.simplefilter("ignore")
assert lean is not usual and torchmetrics.MeanMetric()(torch.ones(2)) == 1

class Features(torch.nn.Module):
    num_features = 4

    def forward(self, images):
        return images.flatten(1)[:, :4].double()

draws, found = torch.Generator().manual_seed(0), []
sets = [torch.randint(0, 256, (20, 1, 4, 4), generator=draws, dtype=torch.uint8) for _ in range(2)]
for kind in (lean, usual):
    metric = kind(Features(), normalize=False)
    for images, real in zip(sets, (True, False)):
        metric.update(images, real=real)
    found.append(float(metric.compute()))
assert found[0] == found[1] > 0, found
"""


def test_a_worker_loads_no_compiler_and_no_plots() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER.format(heavy=HEAVY)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout.split(), done.returncode) == ([], 0), done.stderr


@pytest.mark.parametrize("before", ["", "import torchmetrics"], ids=["alone", "beside the whole library"])
def test_the_lean_fid_is_the_librarys(before: str) -> None:
    code = FIDS if not before else f"{before}\n{FIDS.replace('lean is not usual', 'lean is usual')}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
