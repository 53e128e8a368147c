"""What others have exported does not count in a run; what a run needs of it stays."""

import importlib.util
from pathlib import Path

import pytest

from harness.execution.environment import KEPT, REMOVED, SET, sanitised


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1"),
        ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
        ("ATEN_CPU_CAPABILITY", "default"),
        ("OMP_NUM_THREADS", "64"),
        ("KMP_AFFINITY", "compact"),
        ("MKL_CBWR", "AVX"),
        ("RAY_RUNTIME_ENV_HOOK", "nowhere.hook"),
        ("RAY_ADDRESS", "host:1"),
        ("TUNE_MAX_LEN_IDENTIFIER", "3"),
        ("WORLD_SIZE", "4"),
        ("MPLBACKEND", "qtagg"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONSTARTUP", "/home/me/startup.py"),
        ("GIT_DIR", "/elsewhere/.git"),
        ("GIT_INDEX_FILE", "/elsewhere/.git/index"),
    ],
)
def test_what_would_change_a_run_goes(name: str, value: str) -> None:
    found, changes = sanitised({name: value, "LANG": "C"})
    assert name not in found and found["LANG"] == "C"
    assert [change.name for change in changes] == [name] and changes[0].why


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_memory_usage_threshold", "0.01"),
        ("RAY_AUTH_TOKEN", "0" * 64),
        ("RAY_TMPDIR", "/scratch"),
        ("RAY_worker_niceness", "0"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
        ("TORCH_HOME", "/weights"),
        ("KMP_DUPLICATE_LIB_OK", "TRUE"),
        ("PYTHONPATH", "/mine"),
        ("CUDA_VISIBLE_DEVICES", "1"),
        ("NCCL_SOCKET_IFNAME", "eth0"),
        ("GIT_SSL_CAINFO", "/etc/ssl/mine.pem"),
        ("HOME", "/home/me"),
    ],
)
def test_what_a_run_needs_stays(name: str, value: str) -> None:
    found, changes = sanitised({name: value})
    assert found[name] == value and not changes


def test_what_is_set_overrules() -> None:
    found, changes = sanitised({"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1", "RAY_AUTH_MODE": "token"})
    assert {name: found[name] for name in SET} == {name: value for name, (value, _) in SET.items()}
    assert [change.name for change in changes] == ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"]


def test_pictures_have_the_style_of_no_home() -> None:
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    assert sanitised({"MATPLOTLIBRC": "/home/me"})[0]["MATPLOTLIBRC"].startswith(str(Path(spec.origin).parent))


def test_a_home_without_files_keeps_no_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "MPLCONFIGDIR" not in sanitised({})[0]
    for home in ("/dev/null", "/absent"):
        monkeypatch.setenv("HOME", home)
        assert "matplotlib" in sanitised({})[0]["MPLCONFIGDIR"]
        assert sanitised({"MPLCONFIGDIR": "/mine"})[0]["MPLCONFIGDIR"] == "/mine"


def test_in_a_worker_rays_own_variables_stay() -> None:
    inside = {"RAY_RAYLET_PID": "7", "RAY_JOB_ID": "01", "OMP_NUM_THREADS": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    found, changes = sanitised(inside)
    assert found["RAY_JOB_ID"] == "01" and found["OMP_NUM_THREADS"] == "1"
    assert [change.name for change in changes] == ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]


def test_workers_keep_the_memory_of_layers() -> None:
    kept = {name: int(sanitised({})[0][name]) for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
    assert min(kept.values()) > 100e6, "what a layer of a feature network writes, in bytes"
    assert sanitised({"MALLOC_TRIM_THRESHOLD_": "1"})[0]["MALLOC_TRIM_THRESHOLD_"] == "1"


def test_workers_are_as_polite_as_their_user_says() -> None:
    assert sanitised({})[0]["RAY_worker_niceness"] == "0", "and not Ray's own 15"
    assert sanitised({"RAY_worker_niceness": "10"}) == ({**sanitised({})[0], "RAY_worker_niceness": "10"}, [])


def test_every_variable_says_why() -> None:
    assert all([*KEPT, *REMOVED, *(why for _, why in SET.values())])
