"""Variables of the environment: which are set, taken away or kept for a run, and why.

What others have exported in a shell profile, a container or a batch script is read by torch, Ray, numpy, matplotlib,
git and Python long after the run has started, and in every process that it starts. `seal` puts this process's own
environment right, once and before those libraries look; Ray's workers, the scoring processes, the report's kernel and
git inherit it. Workers on other machines of a cluster seal their own.
"""

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

SET: dict[str, tuple[str, str]] = {
    "RAY_AUTH_MODE": ("token", "whoever reaches a Ray without a token may run there what they like"),
    "RAY_USAGE_STATS_ENABLED": ("0", "nothing is reported to anybody"),
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": ("0", "under `uv run` Ray would start its workers through uv, where they die"),
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": ("1", "it answers SIGTERM with a native stack trace, and an abort"),
    "RAY_AIR_NEW_OUTPUT": ("0", "no tables of Ray's own"),
    "RAY_CHDIR_TO_TRIAL_DIR": ("0", "trials keep the working folder"),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": ("0", "a trial without a share of a GPU still sees it"),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": ("1", "results go into the store alone"),
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": ("1", "a trial reports its result, not a metric"),
    "TUNE_DISABLE_SIGINT_HANDLER": ("1", "Ctrl-C reaches us as KeyboardInterrupt"),
    "TUNE_GLOBAL_CHECKPOINT_S": ("86400", "Tune's own state is never read again"),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": ("0", "likewise"),
    "TUNE_MAX_PENDING_TRIALS_PG": ("16", "trials that wait for a place at once; the limit on running ones is ours"),
}
"""Name -> (value, why)."""

KEPT: dict[str, str] = {
    "RAY_AUTH_TOKEN*": "the token of a cluster that is joined",
    "RAY_USE_TLS": "how a cluster is reached",
    "RAY_TLS_*": "how a cluster is reached",
    "RAY_TMPDIR": "where Ray's sockets may lie",
    "RAY_memory_usage_threshold": "how full memory may become before Ray ends a worker",
    "RAY_memory_monitor_refresh_ms": "how often Ray looks at memory; 0 for never",
    "RAY_worker_niceness": "how politely workers share the processors",
    "TORCH_HOME": "where weights of pretrained networks lie",
    "TORCH_NCCL_*": "how GPUs talk to each other",
    "PYTORCH_*ALLOC_CONF": "how GPU memory is handed out; changes no number",
    "PYTHONPATH": "where code is found",
    "PYTHONHOME": "where Python is found",
    "PYTHONNOUSERSITE": "where code is found",
    "PYTHONUSERBASE": "where code is found",
    "PYTHONSAFEPATH": "where code is found",
    "PYTHONDONTWRITEBYTECODE": "changes no number",
    "PYTHONPYCACHEPREFIX": "changes no number",
    "PYTHONUNBUFFERED": "changes no number",
    "PYTHONHASHSEED": "changes no number",
    "PYTHONFAULTHANDLER": "changes no number",
    "PYTHONUTF8": "how text is written",
    "PYTHONIOENCODING": "how text is written",
    "KMP_DUPLICATE_LIB_OK": "some installations do not start without",
    "MKL_THREADING_LAYER": "some installations do not start without",
    "MKL_SERVICE_FORCE_INTEL": "some installations do not start without",
    "OPENBLAS_CORETYPE": "some processors do not work without",
}
"""Patterns of names that REMOVED would catch -> why they stay."""

REMOVED: dict[str, str] = {
    "TORCH_*": "overrules how torch computes and loads",
    "PYTORCH_*": "overrules how torch computes",
    "ATEN_*": "overrules how torch computes",
    "CUBLAS_WORKSPACE_CONFIG": "overrules how torch computes",
    "NVIDIA_TF32_OVERRIDE": "overrules how torch computes",
    "DNNL_*": "overrules how torch computes",
    "ONEDNN_*": "overrules how torch computes",
    "NPY_*": "overrules how numpy computes",
    "OMP_*": "threads are counted by the run: one a trial",
    "GOMP_*": "threads are counted by the run: one a trial",
    "KMP_*": "threads are counted by the run: one a trial",
    "MKL_*": "threads are counted by the run: one a trial",
    "OPENBLAS_*": "threads are counted by the run: one a trial",
    "NUMEXPR_*": "threads are counted by the run: one a trial",
    "RANK": "of a launcher; ranks are counted by the run",
    "LOCAL_RANK": "of a launcher; ranks are counted by the run",
    "WORLD_SIZE": "of a launcher; ranks are counted by the run",
    "LOCAL_WORLD_SIZE": "of a launcher; ranks are counted by the run",
    "MASTER_ADDR": "of a launcher; ranks are counted by the run",
    "MASTER_PORT": "of a launcher; ranks are counted by the run",
    "RAY_*": "changes how Ray starts its processes",
    "TUNE_*": "changes how Ray starts trials",
    "MPLBACKEND": "pictures are drawn without a screen",
    "MATPLOTLIBRC": "pictures have the report's own style",
    "PYTHON*": "changes how Python runs in every process",
    "GIT_DIR": "points git to another checkout, and the commit beside results would be wrong",
    "GIT_WORK_TREE": "likewise",
    "GIT_COMMON_DIR": "likewise",
    "GIT_INDEX_FILE": "likewise",
    "GIT_NAMESPACE": "likewise",
    "GIT_*OBJECT_DIRECTOR*": "likewise",
    "GIT_CEILING_DIRECTORIES": "likewise",
}
"""Patterns of names that are taken away -> why. What matches nothing here is not looked at, and stays."""


@dataclass(frozen=True)
class Change:
    """A variable that others had set and that does not count in a run."""

    name: str
    why: str


def sealed(environment: Mapping[str, str]) -> tuple[dict[str, str], list[Change]]:
    """The environment of a run, made from that of whoever started it; and what was taken away or overruled.

    Inside one of Ray's own workers Ray's variables are its own affair.
    """
    in_worker = "RAY_RAYLET_PID" in environment
    found, changes = {}, []
    for name, value in environment.items():
        wanted, why = SET.get(name, (None, ""))
        if wanted is None and not _matches(name, KEPT) and not (in_worker and name.startswith(("RAY_", "OMP_"))):
            why = next((reason for pattern, reason in REMOVED.items() if fnmatchcase(name, pattern)), "")
        if why and value != wanted:
            changes.append(Change(name, why))
        else:
            found[name] = value
    found |= {name: value for name, (value, _) in SET.items()}
    found["MATPLOTLIBRC"] = _matplotlib_style()
    if "MPLCONFIGDIR" not in found and not _home_takes_files():
        found["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / f"gan-ablation-matplotlib-{os.getuid()}")
    return found, sorted(changes, key=lambda change: change.name)


@cache
def seal() -> tuple[Change, ...]:
    """Put this process's environment right, for itself and for all that it starts; the first call counts.

    Returns:
        What others had set and does not count.
    """
    found, changes = sealed(os.environ)
    for name in os.environ.keys() - found.keys():
        del os.environ[name]
    os.environ.update(found)
    return tuple(changes)


def _matches(name: str, patterns: Mapping[str, str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _matplotlib_style() -> str:
    """Matplotlib's own settings file: without it, it takes those of the user's home."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "matplotlibrc")


def _home_takes_files() -> bool:
    home = os.environ.get("HOME") or "/"
    return os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK)
