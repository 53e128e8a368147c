"""benchmarks/gpu.py at its toy size, on a CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measured(*options: str) -> str:
    """What it prints; a section that failed is an error."""
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", *options]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout


def test_the_gpu_benchmark_measures_every_prototype() -> None:
    printed = measured("--sections", "card", "alone", "seeds", "precision")
    for network in ("fc 28", "dc 28"):
        assert f"{network}           batch   4, images/s: harness " in printed
        assert f"{network}           2 seeds" in printed
    assert "bfloat16, channels last" in printed
    assert "fails:" not in printed and "FAILED" not in printed


@pytest.mark.slow
def test_the_gpu_benchmark_measures_sharing() -> None:
    assert "2 at once" in measured("--sections", "sharing", "--networks", "fc 28")
