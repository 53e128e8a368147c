"""What workers, pages and the program load, and when: each library costs seconds and memory in every process."""

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
from harness.lean import lean_fid
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
STYLE = """
import sys
from harness.lean import lean_seaborn
lean = lean_seaborn()
assert not any(name.startswith(("seaborn", "scipy.stats")) for name in sys.modules), "more than the style"
import seaborn
assert lean is not seaborn.rcmod and lean.axes_style("whitegrid") == seaborn.axes_style("whitegrid")
assert lean.plotting_context("notebook", 0.95) == seaborn.plotting_context("notebook", 0.95)
assert seaborn.kdeplot([1.0, 2.0, 4.0]).lines, "the library is whole"
assert lean_seaborn() is seaborn.rcmod
"""
PAGE = """
import sys
from studies.__main__ import main
assert "numpy" not in sys.modules, "before signals are taken over, and threads limited"
import studies
assert "find" in dir(studies) and not hasattr(studies, "_private") and "numpy" not in sys.modules
sys.argv = ["studies", "list"]
try:
    main()
except SystemExit as done:
    assert not done.code
import harness.reporting.study_page, harness.reporting.report, harness.analysis.evidence
from threadpoolctl import threadpool_info
assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {1}, threadpool_info()
assert not {"seaborn", "scipy.stats", "torch"} & set(sys.modules)
assert studies.noise.NOISE is studies.find("noise") and not hasattr(studies, "nonsense")
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


@pytest.mark.parametrize("code", [STYLE, PAGE], ids=["style", "page"])
def test_a_page_loads_only_what_it_uses(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
