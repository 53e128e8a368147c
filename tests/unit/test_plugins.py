"""A user's own file and modules: what is read, what runs, and what of it is in a trial's identity."""

import contextlib
import sys
from pathlib import Path

import pytest

from harness.analysis.evidence import load_evidence
from harness.errors import UserError
from harness.execution.plan import make_plan
from harness.plugin_identity import identity, refusing_files
from harness.plugins import UserCode, read_user_code
from harness.reporting.provenance import warnings
from harness.storage.result import TrialResult
from harness.storage.store import Store
from studies.catalog import find

STUDY = '''
"""A docstring."""
import torch
from dataclasses import replace
from architectures import ARCHITECTURES, Architecture, fc
from harness.training.losses import LOSSES
from harness.study import Factor, Level, Contrast, Study
from studies.baselines import FC
from studies.profiles import SMOKE
from nets import build

RATE = 0.2
def rated(slope=RATE):  # a comment
    """Another docstring."""
    return slope

ARCHITECTURES["fc-mine"] = Architecture(build, fc.defaults)
def other(**choices):
    return fc.build(**{**choices, "generator_dropout": rated()})

ARCHITECTURES["fc-other"] = Architecture(other, fc.defaults)
STUDY = Study(
    name="mine", title="A title", baselines={"fc": FC, "mine": {**FC, "architecture": "fc-mine"}},
    questions=(
        Contrast(key="mine", text="Is mine better?", hypothesis="Yes.", baseline="fc",
            factor=Factor(label="network", levels=(Level(label="FC"), Level(label="mine", baseline="mine"))),
            expected="lower"),
    ),
    profiles=(replace(SMOKE, seeds=1, num_generated=200),),
)
'''
NETS = """
from torch import nn
from architectures import GanPair, fc
from parts.layers import activation

UNUSED = 1

def build(**choices):
    pair = fc.build(**choices)
    return GanPair(nn.Sequential(*[activation(l) for l in pair.generator]), pair.discriminator)
"""
LAYERS = """
from torch import nn

def activation(layer):
    return nn.SiLU() if isinstance(layer, nn.LeakyReLU) else layer

def unused():
    return 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "mystudy.py").write_text(STUDY)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "parts" / "layers.py").write_text(LAYERS)
    return tmp_path


def hashes(folder: Path) -> dict[str, str]:
    code = read_user_code(folder / "mystudy.py")
    return {name: identity(code, [("architecture", name)]) for name in ("fc-mine", "fc-other")}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_network_beside_the_study_is_read(folder: Path) -> None:
    code = read_user_code(folder / "mystudy.py")
    assert [m.name for m in code.modules] == ["nets", "parts", "parts.layers"]
    assert code.load().build.__module__ == "nets"


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("parts/layers.py", "nn.SiLU()", "nn.Tanh()", {"fc-mine"}),  # two modules away
        ("nets.py", "activation(l)", "activation(activation(l))", {"fc-mine"}),
        ("nets.py", "UNUSED = 1", "UNUSED = 2", set()),
        ("parts/layers.py", "return 2", "return 3", set()),
        ("mystudy.py", "A title", "Another title", set()),
        ("mystudy.py", "A docstring", "Prose", set()),
        ("mystudy.py", "Another docstring", "Prose", set()),
        ("mystudy.py", "# a comment", "# prose", set()),
        ("mystudy.py", "slope=RATE", "slope = RATE", set()),
        ("mystudy.py", "RATE = 0.2", "RATE = 0.3", {"fc-other"}),
        ("mystudy.py", "RATE = 0.2", "RATE = '0.2'", {"fc-other"}),
        ("mystudy.py", "RATE = 0.2", "RATE = 0.2\nprint(end='')", {"fc-mine", "fc-other"}),
        ("mystudy.py", "RATE = 0.2", "RATE = 0.2\nif torch:\n    RATE = 0.3", {"fc-mine", "fc-other"}),
        ("nets.py", "UNUSED = 1", "UNUSED = 1\nfc.build.note = 1", {"fc-mine", "fc-other"}),
        ("nets.py", "UNUSED = 1", "TABLE = {}\n_ = TABLE.update(a=1)", {"fc-mine", "fc-other"}),
    ],
)
def test_identity_is_of_what_is_used(folder: Path, file: str, old: str, new: str, changed: set[str]) -> None:
    before = hashes(folder)
    edit(folder / file, old, new)
    after = hashes(folder)
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [  # (each was once not seen)
        ("nets.py", "return GanPair", "return BLOCKS['act']() and GanPair"),
        ("nets.py", "UNUSED = 1", "import torch\n_old = torch.set_printoptions(precision=4)"),
        ("nets.py", "UNUSED = 1", "class Quiet:\n    nn.SiLU.note = 1"),
        ("nets.py", "UNUSED = 1", "from parts.patch import patch\nPATCHED = patch()"),
        ("nets.py", "UNUSED = 1", "if TYPE_CHECKING:\n    pass\nelse:\n    UNUSED = 2"),
        (
            "mystudy.py",
            "RATE = 0.2",
            "RATE = 0.2\nLOSSES['a'] = LOSSES['hinge']\nLOSSES['fc-mine'] = LOSSES['a']",
        ),
    ],
)
def test_what_acts_from_afar_is_seen(folder: Path, file: str, old: str, new: str) -> None:
    """A registry filled by decorators, patches, class bodies, entries made from entries: in the file, then edited."""
    (folder / "parts/blocks.py").write_text(
        "BLOCKS = {}\ndef register(name):\n    def put(f):\n        BLOCKS[name] = f\n        return f\n"
        "    return put\n"
    )
    (folder / "parts/patch.py").write_text("from torch import nn\ndef patch():\n    nn.SiLU.note = 1\n")
    blocks = "from typing import TYPE_CHECKING\nfrom parts.blocks import BLOCKS, register\n"
    edit(folder / "nets.py", "UNUSED = 1", f"{blocks}@register('act')\ndef act():\n    return 1\n\nUNUSED = 1")
    edit(folder / file, old, new)
    field, name = ("loss", "fc-mine") if "LOSSES" in new else ("architecture", "fc-mine")

    def hashed() -> str:
        return identity(read_user_code(folder / "mystudy.py"), [(field, name)])

    before = hashed()
    for where, this, that in (
        ("nets.py", "    return 1", "    return 3"),
        ("nets.py", "precision=4", "precision=5"),
        ("nets.py", "note = 1", "note = 2"),
        ("parts/patch.py", "note = 1", "note = 2"),
        ("nets.py", "UNUSED = 2", "UNUSED = 3"),
        ("mystudy.py", "LOSSES['hinge']", "LOSSES['wasserstein']"),
    ):
        if this in new or ("BLOCKS" in new and "return 1" in this) or ("patch()" in new and "patch" in where):
            edit(folder / where, this, that)
    assert hashed() != before


def test_what_a_file_does_names_every_trial(folder: Path) -> None:
    """A patch of a shipped network would else be stored under the name of trials without it."""

    def code() -> set[str]:
        runs = make_plan(find(str(folder / "mystudy.py")), "smoke", None, None).runs
        return {run.spec.code for run in runs if run.arm == "fc"}

    assert code() == {""}
    edit(folder / "mystudy.py", "RATE = 0.2", "RATE = 0.2\ntorch.nn.Tanh.note = 1")
    patched = code()
    edit(folder / "mystudy.py", "note = 1", "note = 2")
    assert {""} != patched != code() != {""}


def test_a_module_that_hides_pythons_own_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "this", raising=False)
    (folder / "this.py").write_text("RATE = 1")
    edit(folder / "mystudy.py", "import torch", "import this")
    with pytest.raises(UserError, match=r"this.py hides Python's own module this; rename it"):
        read_user_code(folder / "mystudy.py")


def test_identity_is_golden_and_knows_no_path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same for every version of Python and wherever the files lie."""
    assert hashes(folder) == {"fc-mine": "298bd88156f94cd6", "fc-other": "31606f34b28b51c8"}
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "there"
    folder.rename(elsewhere)
    assert hashes(elsewhere)["fc-mine"] == "298bd88156f94cd6"


def test_an_entry_from_a_loop_takes_everything(folder: Path) -> None:
    """No line registers it in so many words, so all that there is belongs to it."""
    edit(
        folder / "mystudy.py",
        'ARCHITECTURES["fc-mine"] = Architecture(build, fc.defaults)',
        'for name in ("fc-mine",):\n    ARCHITECTURES[name] = Architecture(build, fc.defaults)',
    )
    before = hashes(folder)
    edit(folder / "nets.py", "UNUSED = 1", "UNUSED = 2")
    assert hashes(folder)["fc-mine"] != before["fc-mine"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("nets.py", "pair = fc", "import torch; torch.load('x'); pair = fc", "nets.py: what `load` brings cannot be"),
        ("nets.py", "pair = fc", "open('x'); pair = fc", "what `open` brings"),
        ("nets.py", "pair = fc", "eval('1'); pair = fc", "what `eval` brings"),
        ("nets.py", "pair = fc", "import importlib; importlib.import_module('y'); pair = fc", "what `import_module`"),
        ("nets.py", "pair = fc", "import os; os.environ['x']; pair = fc", "what `environ` brings"),
        ("nets.py", "pair = fc", "import torch; torch.load(f='x'); pair = fc", "what `load` brings"),
        ("nets.py", "pair = fc", "configparser.ConfigParser().read('x.ini'); pair = fc", "what `read` brings"),
        ("nets.py", "pair = fc", "resnet18(weights='DEFAULT'); pair = fc", "what `weights='DEFAULT'` brings"),
        ("nets.py", "pair = fc", "resnet18(weights=ResNet18_Weights.DEFAULT)\n    pair = fc", "Weights"),
        ("nets.py", "pair = fc", "resnet18(weights=choices.get('w')); pair = fc", r"what `weights=choices.get\('w'\)`"),
        ("nets.py", "pair = fc", "resnet18(**{'pretrained': True}); pair = fc", "what `pretrained` brings"),
        (
            "nets.py",
            "pair = fc",
            "import smp; smp.Unet(encoder_weights='imagenet'); pair = fc",
            "what `encoder_weights='imagenet'`",
        ),
        ("nets.py", "pair = fc", "import torch; getattr(torch, 'load')('x'); pair = fc", "what `load` brings"),
        ("nets.py", "pair = fc", "import torch; getattr(torch, 'lo' + 'ad')('x'); pair = fc", "what `getattr"),
        ("nets.py", "pair = fc", "import sys; sys.modules['x']; pair = fc", "what `modules` brings"),
    ],
)
def test_what_cannot_be_followed_is_refused(folder: Path, file: str, old: str, new: str, message: str) -> None:
    edit(folder / file, "UNUSED = 1", f"import configparser\n{INSTALLED}\nUNUSED = 1")
    edit(folder / file, old, new)
    with pytest.raises(UserError, match=message) as refused:
        hashes(folder)
    assert "\n" not in str(refused.value)


INSTALLED = "from torchvision.models import ResNet18_Weights, resnet18"


@pytest.mark.parametrize(
    "harmless",
    [
        "import torch; count = lambda x: torch.bincount(x, weights=x)",
        "from torchvision.models import resnet18; resnet18(weights=None)",
        "getattr(nn, 'Si' + 'LU')()",
        "from parts import layers; getattr(layers, 'activ' + 'ation')",
        "[m for m in nn.Identity().modules()]",
    ],
)
def test_what_brings_nothing_is_allowed(folder: Path, harmless: str) -> None:
    edit(folder / "nets.py", "pair = fc", f"{harmless}; pair = fc")
    hashes(folder)


def test_a_file_read_while_building_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an installed package, whose words are in no list here, and which goes on where it cannot read."""
    site = folder / "site-packages"
    site.mkdir()
    (site / "helpful.py").write_text(
        "def fetch(path):\n    try:\n        open(path)\n    except Exception:\n        pass"
    )
    monkeypatch.syspath_prepend(str(site))
    edit(folder / "nets.py", "pair = fc", f"import helpful; helpful.fetch({str(folder / 'absent.ini')!r}); pair = fc")
    with pytest.raises(UserError, match=r"arm 'mine' reads .*absent.ini while it is built, which cannot be followed"):
        make_plan(find(str(folder / "mystudy.py")), "smoke", None, None)


def test_archives_on_the_path_are_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that happens while a network is built looks into them, python311.zip among them."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "modules.zip")])
    with refusing_files("arm 'mine'"), contextlib.suppress(FileNotFoundError):
        (tmp_path / "modules.zip").open()
    reading = contextlib.suppress(FileNotFoundError)
    with pytest.raises(UserError, match="data.zip"), refusing_files("arm 'mine'"), reading:
        (tmp_path / "data.zip").open()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("'architecture': 'fc-mien'", "unknown architecture 'fc-mien' (did you mean 'fc-mine'?); valid: fc, dc"),
        ("'loss': 'hinje'", "unknown loss 'hinje' (did you mean 'hinge'?); valid: nonsaturating"),
        (
            "'augmentation': 'cutout+cutoff'",
            "unknown augmentation 'cutoff' (did you mean 'cutout'?); valid: none, brightness",
        ),
        ("'augmentation': 'nome'", "unknown augmentation 'nome' (did you mean 'none'?); valid: "),
    ],
)
def test_a_name_that_nobody_registered_is_refused(folder: Path, changes: str, message: str) -> None:
    """Each trial would else fail with a KeyError, after its preparation."""
    edit(folder / "mystudy.py", '"fc": FC', f'"fc": {{**FC, {changes}}}')
    study = find(str(folder / "mystudy.py"))
    with pytest.raises(UserError) as refused:
        make_plan(study, "smoke", None, None)
    assert str(refused.value).startswith(f"arm 'fc': {message}") and "\n" not in str(refused.value)


def test_a_baseline_without_a_loss_is_refused(folder: Path) -> None:
    edit(folder / "mystudy.py", '"fc": FC', "'fc': {k: v for k, v in FC.items() if k != 'loss'}")
    with pytest.raises(UserError, match="arm 'fc': spec lacks the fields loss"):
        make_plan(find(str(folder / "mystudy.py")), "smoke", None, None)


def test_what_evaluates_a_network_is_no_eval(folder: Path) -> None:
    edit(folder / "nets.py", "pair = fc", "nn.Identity().eval(); pair = fc")
    hashes(folder)


def test_a_compiled_module_is_refused(folder: Path) -> None:
    import py_compile

    py_compile.compile(str(folder / "nets.py"), cfile=str(folder / "nets.pyc"))
    (folder / "nets.py").unlink()
    with pytest.raises(UserError, match="which is no Python source"):
        read_user_code(folder / "mystudy.py")


def test_an_import_inside_a_function_is_followed(folder: Path) -> None:
    edit(folder / "nets.py", "from parts.layers import activation\n", "")
    edit(folder / "nets.py", "    pair = fc", "    from parts.layers import activation\n    pair = fc")
    before = hashes(folder)
    edit(folder / "parts/layers.py", "nn.SiLU()", "nn.Tanh()")
    assert hashes(folder)["fc-mine"] != before["fc-mine"]


def test_workers_run_the_sources_that_were_read(folder: Path) -> None:
    code = read_user_code(folder / "mystudy.py")
    old = code.load().build
    for file in ("nets.py", "parts/layers.py", "mystudy.py"):
        (folder / file).unlink()
    copy = UserCode(code.file, code.source + "\n", code.modules)  # as another process has it: nothing loaded yet
    assert copy.load().build is not old and sys.modules["parts.layers"].activation is not None


def test_a_module_that_fails_names_its_line(folder: Path) -> None:
    edit(folder / "parts/layers.py", "def unused", "1 / 0\ndef unused")
    with pytest.raises(UserError, match=r"mystudy.py failed: ZeroDivisionError: .* \(line \d+ of .*layers.py\)"):
        read_user_code(folder / "mystudy.py")


def test_trials_of_earlier_code_are_counted(folder: Path) -> None:
    store = Store(folder / "store", create=True)
    plan = make_plan(find(str(folder / "mystudy.py")), "smoke", None, store)
    for run in plan.pending():
        store.write(TrialResult(spec=run.spec, status="ok", cost={"seconds": 1.0}, provenance={}))
    cells = [{"arm": c.arm, "seed": c.seed, "trial_id": c.spec.trial_id} for c in plan.runs]
    store.write_plan("mine", "smoke", {"protocol_id": "0" * 12, "cells": cells})
    edit(folder / "mystudy.py", "A title", "Another title")
    plan = make_plan(find(str(folder / "mystudy.py")), "smoke", None, store)
    assert (len(plan.pending()), plan.left_behind) == (0, 0)
    assert not told_of_earlier(folder, store)
    edit(folder / "parts/layers.py", "nn.SiLU()", "nn.Tanh()")
    plan = make_plan(find(str(folder / "mystudy.py")), "smoke", None, store)
    assert (len(plan.pending()), plan.left_behind) == (1, 1), "the baseline's trial is still good"
    told = told_of_earlier(folder, store)
    assert told[0].startswith("1 trial was made from an earlier version of this study's code or settings: the next run")
    assert told[0].endswith("in: mine (1).") and len(told) == 1
    edit(folder / "mystudy.py", '"architecture": "fc-mine"', '"architecture": "fc-mien"')
    assert not told_of_earlier(folder, store), "what is refused today cannot be compared, and the report goes on"


def told_of_earlier(folder: Path, store: Store) -> list[str]:
    """What a report of the study warns of earlier code."""
    evidence = load_evidence(store, find(str(folder / "mystudy.py")), "smoke")
    return [line for line in warnings(evidence) if "earlier version" in line]


def test_a_checkouts_metadata_may_be_read(tmp_path) -> None:
    """Libraries look for entry points at their first use, also in a package that is imported from its source."""
    place = tmp_path / "some.egg-info"
    place.mkdir()
    (place / "entry_points.txt").write_text("[x]\n")
    (place / "weights.txt").write_text("1")
    with refusing_files("arm 'mine'"):
        (place / "entry_points.txt").read_text()
    with pytest.raises(UserError, match="weights.txt"), refusing_files("arm 'mine'"):
        (place / "weights.txt").read_text()
