"""What specs and studies promise of networks: which depths there are, the same number of parameters, the references."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import architectures
import harness.spec
from architectures import count_parameters, flops_per_image
from harness.errors import UserError
from harness.spec import TrialSpec
from harness.training.loop import build_networks
from harness.training.losses import LOSSES
from harness.training.tricks import AUGMENTATIONS
from studies import STUDIES
from tests.unit.test_spec import VALUES


def test_a_spec_knows_the_names_that_there_are() -> None:
    """It lists them without importing the registries, and torch with them."""
    assert tuple(LOSSES) == harness.spec.LOSSES
    assert tuple(AUGMENTATIONS) == harness.spec.AUGMENTATIONS


def is_refused(make: Callable[..., object], values: dict[str, object], error: type[Exception]) -> bool:
    try:
        make(**values)
    except error:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("fc", 28),
        ("fc", 1024),
        ("resnet", 28),
        ("resnet", 31),
        ("resnet", 96),
        *(("dc", r) for r in (*range(4, 34), 48, 56, 64, 96, 100, 128, 512, 1024)),
    ],
)
def test_specs_refuse_what_cannot_be_built(name: str, resolution: int) -> None:
    own = architectures.defaults(name, resolution=resolution)
    for player in ("generator_depth", "discriminator_depth"):
        for depth in range(12):
            network = {
                "resolution": resolution,
                "generator_width": 1,
                "discriminator_width": 1,
                "generator_norm": "none",
                "discriminator_dropout": 0.0,
            }
            network |= {key: own[key] for key in ("generator_depth", "discriminator_depth")} | {player: depth}
            with torch.device("meta"):
                impossible = is_refused(
                    architectures.build, {"name": name, "channels": 1, "latent_dim": 1, **network}, ValueError
                )
            assert is_refused(TrialSpec, {**VALUES, "architecture": name, **network}, UserError) == impossible, network


def sizes(name: str, key: str, player: str, profile: str) -> list[int]:
    """Parameters of G or D at each level of a question."""
    design = STUDIES[name].at(profile)
    specs = {run.arm: run.spec for run in design.runs(1, lambda *_: "0" * 16)}
    with torch.device("meta"):
        networks = [build_networks(specs[arm.name]) for arm in design.arms(design.question(key)).values()]
    return [count_parameters(getattr(network, player)) for network in networks]


@pytest.mark.parametrize("profile", ["laptop", "paper"])
@pytest.mark.parametrize(
    ("question", "player"),
    [("quality-dc", "generator"), ("quality-fc", "generator"), ("d-depth-quality", "discriminator")],
)
def test_a_sweep_at_the_same_size_is_one(question: str, player: str, profile: str) -> None:
    same = sizes("depth", f"{question}-same-size", player, profile)
    assert len(same) >= 3 and max(same) < 1.04 * min(same)
    plain = sizes("depth", question, player, profile)
    assert max(plain) > 2 * min(plain), "the plain sweep changes the size, or the other would not be needed"


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_the_small_fc_generator_matches_dcs(profile: str) -> None:
    small, dc = sizes("architecture", "size", "generator", profile)
    assert small == pytest.approx(dc, rel=0.01)


def test_the_paper_profile_trains_the_founding_documents_networks() -> None:
    """With the batches that it gives; tests/architectures/test_golden.py has its tables layer by layer."""
    expected = {"fc": (256, 56, 1, 100, 3_897_152, 3_868_673), "dc": (128, 96, 3, 128, 5_472_483, 734_977)}
    for study, profile in (
        ("reference", "paper"),
        ("reference", "smoke"),
        ("noise", "paper"),
        ("depth", "paper@folder:x"),
    ):
        cells = STUDIES[study].at(profile).runs(1, lambda *_: "0" * 16)
        for cell in cells:
            if cell.arm in expected:
                s = cell.spec
                with torch.device("meta"):
                    gan = build_networks(s)
                sizes = (count_parameters(net, with_statistics=True) for net in (gan.generator, gan.discriminator))
                assert (s.batch_size, s.resolution, s.channels, s.latent_dim, *sizes) == expected[cell.arm]
                reference = architectures.build(
                    s.architecture, resolution=s.resolution, channels=s.channels, latent_dim=s.latent_dim
                )
                assert str(gan) == str(reference), "layer by layer, with its dropout"
        assert {"fc", "dc"} <= {cell.arm for cell in cells}


@pytest.mark.parametrize("transposed", [False, True])
def test_shapes_without_memory_are_a_convolutions_own(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    for kernel, stride, padding, dilation, groups in ((4, 2, 1, 1, 1), (5, 3, 2, 2, 2), (3, 1, 0, 1, 4)):
        network = kind(4, 8, kernel, stride, padding, dilation=dilation, groups=groups)
        on_meta = copy.deepcopy(network).to("meta")
        assert flops_per_image(on_meta, (4, 17, 19)) == flops_per_image(network, (4, 17, 19)) > 0
