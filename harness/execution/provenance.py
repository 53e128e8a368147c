"""Where and with what a result was made: kept beside it, never part of its identity."""

import contextlib
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "ray", "torch_fidelity", "torchmetrics", "timm", "numpy", "scipy", "pandas")


def provenance() -> dict[str, str]:
    """Commit (with `+` where the tree was changed) or installed version, Python, platform and library versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package.replace("_", "-"))
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **versions,
    }


def _commit() -> str:
    def git(*words: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else it is a repository around an environment
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD")[:12] + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        with contextlib.suppress(PackageNotFoundError):
            return f"version {version('gan-ablation')}"
        return "unknown"


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
