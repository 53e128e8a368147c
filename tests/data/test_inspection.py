"""What people are told of a data set before they use it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import cli
from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.execution.plan import Plan, make_plan
from harness.inspection import contact_sheet, full_lines, short_lines
from harness.scoring.yardstick import prepare_classifier, prepare_extractor, prepare_online_extractor
from studies.catalog import CATALOG
from studies.noise import NOISE
from tests.cli.test_cli import studies
from tests.data.shipped_digits import shipped_digits


def put_digits(root: Path, folder_of: dict[int, str] | None = None) -> None:
    """600 real digits: in folders of their class, or of what a function of their place says."""
    x, y = shipped_digits()
    for n, i in enumerate(np.random.default_rng(0).permutation(len(x))[:600]):
        folder = root / (f"class {y[i]}" if folder_of is None else folder_of[n % len(folder_of)])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(folder / f"{n:05d}.png")


def load(root: Path, cache: Path, **changes) -> PreparedData:
    return prepare(f"folder:{root}", **{"resolution": 28, "channels": 1, "cache": cache, **changes})


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedData, Path]:
    """Digits in three folders that say nothing of them, and a cache."""
    root, cache = tmp_path_factory.mktemp("noise") / "three folders", tmp_path_factory.mktemp("cache")
    put_digits(root, {0: "a", 1: "b", 2: "c"})
    return load(root, cache), cache


def test_a_classifier_that_learned_nothing_is_refused(noise: tuple[PreparedData, Path]) -> None:
    data, cache = noise
    wrong = r"gets \d\d\.\d% of 240 pictures right that it has not seen; 50\.\d% are the least \(always guessing"
    with pytest.raises(UserError, match=wrong) as caught:
        prepare_extractor("classifier", data, cache)
    assert 'another extractor by the profile\'s extractor="...": imagenet-lite0' in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"`python -m studies inspect '{data.dataset}'`" in str(caught.value), "its folder's name has a space"
    found = prepare_classifier(data, cache)
    guesses = found.load()(torch.from_numpy(np.array(data.images("reference"))))[1].argmax(1).numpy()
    assert found.accuracy == pytest.approx((guesses == data.labels("reference")).mean()) and found.accuracy < 0.5
    assert found.chance == np.bincount(data.labels("reference")).max() / 240


def test_curves_need_classes_that_can_be_learned(noise: tuple[PreparedData, Path], digits, extractor, cache) -> None:
    data, own_cache = noise
    published = replace(extractor, name="inception-v3")
    assert prepare_online_extractor(published, data, own_cache) is None
    assert prepare_online_extractor(published, digits, cache) == extractor


def test_the_digits_are_known_well(extractor) -> None:
    assert extractor.knows_its_classes and extractor.chance == 0.1 and extractor.num_unseen == 2000
    assert extractor.proof()["extractor_accuracy"] == extractor.accuracy > 0.93


@pytest.mark.parametrize("shape", ["flat", "one", "shards"])
def test_plan_refuses_what_the_classifier_cannot_use(tmp_path: Path, shape: str) -> None:
    names = {"flat": {0: "."}, "one": {0: "cats"}, "shards": {0: "00000", 1: "00001"}}[shape]
    put_digits(tmp_path / "pictures", names)
    usual = NOISE.profile(f"smoke@folder:{tmp_path / 'pictures'}")

    def plan(extractor: str) -> Plan:
        profile = replace(usual, name="asked", extractor=extractor)
        return make_plan(replace(NOISE, profiles=(profile,)), "asked", 1, None)

    with pytest.raises(UserError, match=r"no labels for .* \(no classes: .*put its images into one sub-folder a cl"):
        plan("classifier")
    for extractor in ("", "imagenet-lite0", "inception-v3"):
        made = plan(extractor)
    assert ("look like shards" in " ".join(made.data_lines)) == (shape == "shards"), made.data_lines
    assert "600 pictures, no classes; 240 train, 240 reference, 120 extractor" in " ".join(made.data_lines)


def test_lines_tell_all_and_fit(tmp_path: Path) -> None:
    root = tmp_path / "p"
    put_digits(root)
    (root / "class 0" / "copy.png").write_bytes(next((root / "class 1").iterdir()).read_bytes())
    Image.new("RGBA", (900, 20)).save(root / "class 0" / "wide.gif")
    long = root / ("a class with a very long name " * 5)
    long.mkdir()
    for i in range(10):
        Image.new("L", (28, 28), 20 * i).save(long / f"{i}.png")
    (root / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"notes\.txt"):
        data = load(root, tmp_path / "cache")
    lines = full_lines(data)
    assert all(len(line) < 80 for line in lines[1:]), "the first is the path itself"
    told = "\n".join(lines)
    for words in (
        "612, 611 of them distinct",
        "2 kinds, 900×20 to 900×20; 28×28 (611), 900×20 (1)",
        ".png (611), .gif (1)",
        "1 are smaller than 28×28 and were enlarged; 1 are copies of others",
        "1 of them in another class",
        "made grey: 1 stored in colour or with a palette",
        "1 × no picture: notes.txt",
    ):
        assert words in " ".join(told.split()), words
    row = next(line for line in lines if line.startswith("  class 1 "))
    counts = [int(cell) for cell in row.split()[2:]]
    assert sum(counts[:3]) == counts[3] == len(list((root / "class 1").iterdir()))
    short = short_lines(data)
    assert len(short) <= 9 and "not read: notes.txt (no picture)" in "\n".join(short)


def test_a_subset_tells_its_uneven_classes(tmp_path: Path) -> None:
    few, whole = (prepare(name, resolution=28, channels=1, cache=tmp_path) for name in ("mnist-5k@100", "mnist-5k"))
    told = "the subset takes 0 to 21 training pictures of a class"
    assert all(told in " ".join(" ".join(lines(few)).split()) for lines in (full_lines, short_lines))
    assert "subset" not in " ".join(full_lines(whole))


def test_a_contact_sheet_has_a_row_a_class(digits: PreparedData) -> None:
    sheet = np.asarray(contact_sheet(digits))
    assert sheet.shape == (2 + 30 * 10, 2 + 30 * 12, 3)
    images, labels = digits.images("train"), digits.labels("train")
    for label in (0, 9):
        first = images[np.flatnonzero(labels == label)[0], 0]
        assert (sheet[2 + 30 * label :][:28, 2:30, 1] == first).all()


def test_inspect_writes_its_sheet_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_digits(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    cli.app(["inspect", "folder:p", "--accuracy", "--out", "sheet.png"], obj=CATALOG, standalone_mode=False)
    told = capsys.readouterr().out
    assert "its folders are the classes (class 0, class 1, ..., class 9)" in told
    assert "accuracy  The classifier gets" in told and told.endswith("wrote sheet.png\n")
    assert {p.name for p in tmp_path.iterdir()} == {"p", "sheet.png"}
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (362, 302)


def test_inspect_takes_the_shape_that_profiles_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()  # as mktemp leaves it: no store yet, and none that is broken
    words = ["inspect", "stacked-mnist", "--store", "empty"]
    cli.app(words, obj=CATALOG, standalone_mode=False)
    assert "28×28, colour" in capsys.readouterr().out
    with pytest.raises(UserError, match="channels=1 would mix them"):
        cli.app([*words, "--channels", "1"], obj=CATALOG, standalone_mode=False)
    assert not any((tmp_path / "empty").iterdir())


def test_an_argument_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    done = studies("plan", "noise", "--store", "caf\udce9", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: the argument caf\\xe9 has a name that is not UTF-8; rename that file or folder\n"


def test_a_plan_tells_unread_files_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    put_digits(tmp_path / "digits")
    (tmp_path / "digits" / "class 0" / "broken.png").write_bytes(b"no picture")
    words = ["plan", "noise", "--profile", f"smoke@folder:{tmp_path / 'digits'}", "--store", str(tmp_path / "none")]
    cli.app(words, obj=CATALOG, standalone_mode=False)
    assert "not read: class 0/broken.png" in capsys.readouterr().out and not recwarn.list
