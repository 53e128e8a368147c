"""Variables of the environment: which are set, taken away or kept for a run, and why.

What others have exported in a shell profile, a container or a batch script is read by torch, Ray, numpy, matplotlib,
git and Python long after the run has started, and in every process that it starts. `sanitise` cleans this process's
environment, once and before those libraries look; Ray's workers and git inherit it. Workers on the other machines of a
cluster sanitise their own.
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
    "OPENBLAS_NUM_THREADS": (
        "1",
        "its threads end whenever a process is forked, and a product that goes on meanwhile waits for them for ever",
    ),
    "OMP_WAIT_POLICY": (
        "PASSIVE",
        "threads that wait would keep the processors from trials and from workers that start",
    ),
    "RAY_AUTH_MODE": ("token", "whoever reaches a Ray without a token may run there what they like"),
    "RAY_USAGE_STATS_ENABLED": ("0", "nothing is reported to anybody"),
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": ("0", "under `uv run` Ray would start its workers through uv, where they die"),
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": ("1", "it answers SIGTERM with a native stack trace, and an abort"),
    "RAY_DEDUP_LOGS_SKIP_REGEX": (".", "what Ray says of a worker that died, the run says in one line"),
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

DEFAULTS: dict[str, str] = {
    # Ray's own 15 lets everybody else on a shared machine go first, and hides what a user's own `nice` asks for:
    # workers then run as politely as the program that started them, which whoever starts it decides.
    "RAY_worker_niceness": "0",
    # Each trial of a worker runs in a thread of its own, of which the C library keeps what was freed: 1.8 GB a worker.
    "MALLOC_ARENA_MAX": "1",
    # What a layer of a feature network writes (up to 100 MB) is taken from memory that is kept, not asked of the
    # system page by page at each batch, which took 40% of the time of imagenet-lite0's features.
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
}
"""Name -> value where nobody has set another."""

KEPT: dict[str, tuple[str, ...]] = {
    "how a cluster is joined and reached": ("RAY_AUTH_TOKEN*", "RAY_USE_TLS", "RAY_TLS_*"),
    "where Ray's sockets may lie": ("RAY_TMPDIR",),
    "how full memory may become before Ray ends a worker, and how often it looks; 0 for never": (
        *("RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"),
    ),
    "how politely workers share the processors": ("RAY_worker_niceness",),
    "where weights of pretrained networks lie": ("TORCH_HOME",),
    "how GPUs talk to each other": ("TORCH_NCCL_*",),
    "how GPU memory is handed out, which changes no number": ("PYTORCH_*ALLOC_CONF",),
    "where Python and its code are found": (
        *("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONSAFEPATH"),
    ),
    "changes no number": (
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHONFAULTHANDLER"),
    ),
    "how text is written": ("PYTHONUTF8", "PYTHONIOENCODING"),
    "some installations do not start without": (
        *("KMP_DUPLICATE_LIB_OK", "MKL_THREADING_LAYER", "MKL_SERVICE_FORCE_INTEL", "OPENBLAS_CORETYPE"),
    ),
}
"""Why they stay -> patterns of names that REMOVED would catch."""

REMOVED: dict[str, tuple[str, ...]] = {
    "overrules how torch computes and loads": (
        *("TORCH_*", "PYTORCH_*", "ATEN_*", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "DNNL_*", "ONEDNN_*"),
    ),
    "overrules how numpy computes": ("NPY_*",),
    "threads are counted by the run: one per trial": (
        *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*"),
    ),
    "of a launcher; ranks are counted by the run": (
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    ),
    "changes how Ray starts processes and trials": ("RAY_*", "TUNE_*"),
    "pictures are drawn without a screen, in the report's own style": ("MPLBACKEND", "MATPLOTLIBRC"),
    "changes how Python runs in every process": ("PYTHON*",),
    "points git to another checkout, and the commit beside results would be wrong": (
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"),
        *("GIT_*OBJECT_DIRECTOR*", "GIT_CEILING_DIRECTORIES"),
    ),
}
"""Why they are taken away -> patterns of names. What matches nothing here is not looked at, and stays."""


@dataclass(frozen=True)
class Change:
    """A variable that others had set and that does not count in a run."""

    name: str
    why: str


def sanitised(environment: Mapping[str, str]) -> tuple[dict[str, str], list[Change]]:
    """The environment of a run, made from that of whoever started it; and what was taken away or overruled.

    Ray's own workers keep the variables that Ray has set.
    """
    in_worker = "RAY_RAYLET_PID" in environment
    found, changes = {}, []
    for name, value in environment.items():
        wanted, why = SET.get(name, (None, ""))
        if wanted is None and not _why(name, KEPT) and not (in_worker and name.startswith(("RAY_", "OMP_"))):
            why = _why(name, REMOVED)
        if why and value != wanted:
            changes.append(Change(name, why))
        else:
            found[name] = value
    found |= {name: value for name, (value, _) in SET.items()}
    found = DEFAULTS | found
    found["MATPLOTLIBRC"] = _matplotlib_style()
    if "MPLCONFIGDIR" not in found and not _home_takes_files():
        found["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / f"gan-ablation-matplotlib-{os.getuid()}")
    return found, sorted(changes, key=lambda change: change.name)


@cache
def sanitise() -> tuple[Change, ...]:
    """Clean the environment of this process and of all that it starts; the first call counts.

    Returns:
        What others had set and does not count.
    """
    found, changes = sanitised(os.environ)
    for name in os.environ.keys() - found.keys():
        del os.environ[name]
    os.environ.update(found)
    return tuple(changes)


def _why(name: str, reasons: Mapping[str, tuple[str, ...]]) -> str:
    """The reason of the first pattern that the name matches; empty if there is none."""
    return next((why for why, patterns in reasons.items() if any(fnmatchcase(name, p) for p in patterns)), "")


def _matplotlib_style() -> str:
    """Matplotlib's own settings file: without it, it takes those of the user's home."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "matplotlibrc")


def _home_takes_files() -> bool:
    home = os.environ.get("HOME") or "/"
    return os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK)
