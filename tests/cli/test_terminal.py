"""The program in terminals of several kinds and widths, interrupted in every way, and with nobody reading."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import interrupts, terminal
from harness.storage.store import Store
from tests.cli.emulator import COLOUR, ROOT, Emulator
from tests.faults.conftest import whole_trials
from tests.storage.test_store import everything

STUDY = Path(__file__).with_name("small.py")
CLAIMS = 7
TRIALS = 7  # two arms, three seeds, an untrained generator
KEPT = re.compile(r"interrupted: \d+ finished trials? kept in")

pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """No signal is ignored, as by nohup: programs that are started here would inherit that."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in interrupts.STOPS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(shared: Path) -> Iterator[Callable[..., Emulator]]:
    """Run the study in a terminal; what is left of the program is killed in the end."""
    started: list[Emulator] = []

    def start(*words: object, **options) -> Emulator:
        words = words or ("run", STUDY, "--profile", "smoke", "--workers", "2", "--store", shared)
        started.append(Emulator(*words, **options))
        return started[-1]

    yield start
    for emulator in started:
        emulator.process.close(force=True)


@pytest.fixture(scope="module")
def shared(cache: Path, extractor: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: each test goes on from where the last one was interrupted."""
    place = Store(tmp_path_factory.mktemp("terminal") / "store", create=True).root
    shutil.copytree(cache, place / "cache", dirs_exist_ok=True)
    return place


def finished(store: Path) -> int:
    return len([path for path in (store / "trials").glob("*") if not path.name.startswith(".")])


def running(emulator: Emulator) -> list[str]:
    return [row for row in emulator.rows if re.search(r"seed \d +\d+ s$", row)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_while_importing_ends_quietly(number: signal.Signals) -> None:
    code = "from harness import interrupts; interrupts.take_over(); print(flush=True); import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, cwd=ROOT)
    assert process.stdout and process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=30)[1] == "interrupted before any work began\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_further_signals_do_not_disturb_tidying_up(number: signal.Signals, tmp_path: Path) -> None:
    code = """
import sys, time
from harness import interrupts, terminal
interrupts.take_over()
with interrupts.interruptible():
    try:
        exec("print(flush=True); time.sleep(60)")
    except KeyboardInterrupt:
        print(flush=True)
        time.sleep(1)
        print("tidy")
        sys.exit(interrupts.status())
"""
    (tmp_path / "tidying.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tidying"]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=tmp_path, env=environment)
    assert process.stdout
    for _ in range(2):
        process.stdout.readline()
        process.send_signal(number)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30) == ("tidy\n", "")
    assert process.returncode == 128 + number


def test_what_was_ignored_stays_ignored() -> None:
    code = (
        "import os, signal; from harness import interrupts; interrupts.take_over(); os.kill(os.getpid(), signal.SIGHUP)"
    )
    assert subprocess.run(["nohup", sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("words", [["list"], ["--help"], ["list", "2>&1"]])
def test_a_closed_pipe_ends_quietly(words: list[str]) -> None:
    line = f"{sys.executable} -m studies {' '.join(words)} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", 1)


def test_ctrl_c_keeps_trials_and_clears_the_view(run: Callable[..., Emulator], shared: Path) -> None:
    seen = run()
    seen.until(lambda: len(running(seen)) == 2, "two running trials on lines of their own")
    assert any("━" in row and f"/{TRIALS}, " in row for row in seen.rows)
    seen.resize(60)
    seen.until(
        lambda: len(running(seen)) == 2 and any("━" in row and row.endswith(("left", "ends")) for row in seen.rows),
        "new width",
    )
    seen.until(lambda: finished(shared) > 1, "finished trial")
    children = psutil.Process(seen.process.pid).children(recursive=True)
    seen.process.send("\x03\x03")
    assert seen.end() == 130
    text = " ".join(seen.rows)
    assert KEPT.search(text) and "Traceback" not in "".join(seen.pages)
    assert not any("━" in row for row in seen.rows) and "\x1b[?25h" in seen.raw, "the view is gone, the cursor back"
    assert not psutil.wait_procs(children, timeout=5)[1], "it left processes behind"
    assert 1 < len(whole_trials(Store(shared))) < TRIALS


@pytest.mark.parametrize(
    ("stop", "status"), [("term", 143), ("quit", 131), pytest.param("close", 129, marks=pytest.mark.slow)]
)
def test_other_ends_keep_trials_too(run: Callable[..., Emulator], shared: Path, stop: str, status: int) -> None:
    seen, before = run(), finished(shared)
    seen.until(lambda: "running" in "".join(seen.rows), "running trial")
    children = psutil.Process(seen.process.pid).children(recursive=True)
    match stop:
        case "term":
            seen.process.kill(signal.SIGTERM)
        case "quit":
            seen.process.send("\x1c")
        case "close":
            seen.hang_up()
    assert seen.end() == status
    if stop != "close":
        text = "".join(seen.pages)
        assert KEPT.search(" ".join(seen.rows)) and "Traceback" not in text and "***" not in text
    assert not psutil.wait_procs(children, timeout=5)[1], "it left processes behind"
    assert len(whole_trials(Store(shared))) == finished(shared) >= before


def test_resumed_it_goes_on_to_one_table(run: Callable[..., Emulator], shared: Path) -> None:
    kept = finished(shared)
    before = {k: v for k, v in everything(shared / "trials").items() if not k.startswith(".")}
    seen = run(columns=200, NO_COLOR="1")
    assert seen.end() == 0, "\n".join(seen.pages)
    assert f"{kept} from before" in seen.raw and finished(shared) == TRIALS == len(whole_trials(Store(shared)))
    after = everything(shared / "trials")
    assert all(after[name] == content for name, content in before.items()), "a finished trial was run again"
    assert not list((shared / "trials").glob(".*"))
    assert not COLOUR.search(seen.raw)
    told = end_of_run(seen, shared)
    assert told[1] == f"{CLAIMS} claims: 0 supported, 0 refuted, {CLAIMS} unresolved" and seen.widest() <= 200
    assert not any(row.startswith("and ") for row in told), "all claims have room"


def end_of_run(seen: Emulator, store: Path) -> list[str]:
    """The lines from the study's title on; the page is the last one, and all stand on one screen of 24 lines."""
    told = [row for row in seen.pages if row]
    text = "".join(told)
    assert text.endswith(str(store / "reports" / "small-smoke" / "small.html")) and "Traceback" not in text
    told = told[told.index("Does it fit?") :]
    assert "Does it fit?" in seen.rows and not seen.rows[-1], "it has scrolled out, or will with the next prompt"
    listed = len([row for row in told if re.search(r"  unresolved  ", row)])
    left = re.search(r"^and (\d+) more, unresolved", "\n".join(told), re.MULTILINE)
    assert 0 < listed == CLAIMS - int(left[1] if left else 0), "one table: each claim once"
    return told


@pytest.mark.parametrize(("columns", "name"), [(60, "xterm-256color"), (80, "dumb")])
def test_the_end_fits_the_width(run: Callable[..., Emulator], shared: Path, columns: int, name: str) -> None:
    if finished(shared) < TRIALS:
        assert run(columns=200).end() == 0  # this test is asked for alone: lines of progress are no part of it
    seen = run(columns=columns, TERM=name)
    assert seen.end() == 0
    told = end_of_run(seen, shared)
    table = next(n for n, row in enumerate(told) if row.startswith("claim"))
    assert all(word in told[table] for word in ("claim", "verdict", "effect [95%]", "seeds"))
    assert "fc: learning rate of the generator" in " ".join(told) and "".join(told).count("learning rate") == 1
    path = len(str(shared / "reports" / "small-smoke" / "small.html"))
    assert seen.widest() <= max(columns, path)
    if name == "dumb":
        assert "\x1b" not in seen.raw


def test_nobody_reads_and_the_work_is_done(shared: Path) -> None:
    """Nobody reads the progress, that is; what is read is all that there is to say."""
    command = f"{sys.executable} -m studies run {STUDY} --profile smoke --store {shared} --full 2> >(true)"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "FID ↓" in done.stdout and "- Exploratory, as a claim needs" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("small.html") and "verdicts.csv" in done.stdout


def test_a_number_and_its_unit_stay_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(terminal, "width", lambda stream: 20)
    terminal.tell("2 at once, about 49 s", indent="")
    terminal.tell("no\u00a0break, 49 sheep more", indent="")
    assert capsys.readouterr().out.splitlines() == ["2 at once, about", "49 s", "no\u00a0break, 49 sheep", "more"]
