import dataclasses

import pytest

from harness.analysis.results import FROM_CURVES, SCORES
from harness.errors import UserError
from harness.metrics import METRICS
from harness.spec import RESULT_VERSION, ScoreProtocol, TrialSpec, content_hash
from studies.baselines import DC

VALUES = {
    **DC,  # with what is tuned there pinned here
    "batch_size": 64,
    "generator_lr": 1e-3,
    "discriminator_lr": 1e-3,
    "dataset": "mnist-5k",
    "data_fingerprint": "0" * 16,
    "resolution": 28,
    "channels": 1,
    "kimg": 50.0,
    "latent_std": 1.0,
    "instance_noise": 0.0,
    "seed": 0,
    "world_size": 1,
}
OTHER = {  # another allowed value of every field
    "dataset": "folder:somewhere",
    "data_fingerprint": "1" * 16,
    "resolution": 30,
    "channels": 3,
    "architecture": "fc",
    "latent_dim": 65,
    "generator_depth": 4,
    "generator_width": 17,
    "generator_norm": "none",
    "generator_dropout": 0.1,
    "discriminator_depth": 2,
    "discriminator_width": 17,
    "discriminator_dropout": 0.1,
    "batch_size": 32,
    "kimg": 51.0,
    "generator_lr": 2e-3,
    "discriminator_lr": 2e-3,
    "adam_beta1": 0.0,
    "adam_beta2": 0.99,
    "ema_kimg": 3.0,
    "ema_ramp": 0.1,
    "lr_end": 0.25,
    "adam_beta2_end": 0.9,
    "latent_std": 0.5,
    "instance_noise": 0.1,
    "instance_noise_schedule": "linear",
    "loss": "hinge",
    "number_format": "bfloat16",
    "update_rule": "alternating",
    "fresh_latents": True,
    "generator_steps": 2,
    "discriminator_steps": 2,
    "mixed_batches": True,
    "mixed_generator": True,
    "real_label_low": 0.8,
    "real_label_high": 1.2,
    "fake_label_low": -0.1,
    "fake_label_high": 0.2,
    "label_flip_rate": 0.05,
    "discriminator_norm": "spectral",
    "r1_gamma": 1.0,
    "r2_gamma": 1.0,
    "gradient_penalty": 10.0,
    "penalty_interval": 4,
    "penalty_end": 0.1,
    "gradient_clip": 1.0,
    "augmentation": "translation+cutout",
    "code": "0123456789abcdef",
    "sync_batch_norm": True,
    "seed": 1,
    "world_size": 2,
}
OFF = {
    "instance_noise_schedule": "constant",
    "number_format": "float32",
    "update_rule": "simultaneous",
    "fresh_latents": False,
    "generator_steps": 1,
    "discriminator_steps": 1,
    "mixed_batches": False,
    "mixed_generator": False,
    "real_label_low": 1.0,
    "real_label_high": 1.0,
    "fake_label_low": 0.0,
    "fake_label_high": 0.0,
    "label_flip_rate": 0.0,
    "discriminator_norm": "own",
    "r1_gamma": 0.0,
    "r2_gamma": 0.0,
    "gradient_penalty": 0.0,
    "penalty_interval": 1,
    "penalty_end": 1.0,
    "lr_end": 1.0,
    "adam_beta2_end": 0.0,
    "ema_ramp": 0.05,
    "gradient_clip": 0.0,
    "augmentation": "none",
    "sync_batch_norm": False,
    "code": "",
}
NEEDS = {  # what else must change with it
    "instance_noise_schedule": {"instance_noise": 0.1},
    "r1_gamma": {"discriminator_norm": "none"},
    "r2_gamma": {"discriminator_norm": "none"},
    "gradient_penalty": {"discriminator_norm": "none"},
    "penalty_interval": {"discriminator_norm": "none", "r1_gamma": 1.0},
    "penalty_end": {"discriminator_norm": "none", "r1_gamma": 1.0},
    "fresh_latents": {"update_rule": "alternating"},
    "sync_batch_norm": {"world_size": 2},
    "mixed_generator": {"mixed_batches": True},
    "generator_dropout": {"generator_depth": 4},
}


def test_every_field_is_part_of_the_identity() -> None:
    assert OTHER.keys() == {f.name for f in dataclasses.fields(TrialSpec)}, "give each new field another value here"
    for name, value in OTHER.items():
        needed = {**VALUES, **NEEDS.get(name, {})}
        assert TrialSpec(**{**needed, name: value}).trial_id != TrialSpec(**needed).trial_id, name


def test_a_trick_off_renames_no_trial() -> None:
    """And only tricks may be left out: each of their defaults means that the code is not reached."""
    off = {f.name: f.metadata["off"] for f in dataclasses.fields(TrialSpec) if "off" in f.metadata}
    assert off == OFF, "an off value may never change"
    assert TrialSpec(**{**VALUES, **off}).trial_id == TrialSpec(**VALUES).trial_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge", "label_flip_rate": 0.1}, "loss='hinge' has no labels to smooth or flip"),
        ({"loss": "hinge", "real_label_low": 0.9}, "loss='hinge' has no labels"),
        ({"loss": "relativistic", "label_flip_rate": 0.1}, "loss='relativistic' has no labels to smooth or flip"),
        ({"r2_gamma": 1.0}, "discriminator_norm='own' is batch norm here"),
        ({"penalty_interval": 4}, "penalty_interval=4 has no penalty to act on; allowed with r1_gamma"),
        ({"penalty_end": 0.1}, "penalty_end=0.1 has no penalty to act on; allowed with r1_gamma, r2_gamma or"),
        ({"adam_beta2_end": 0.999}, "adam_beta2_end=0.999 is adam_beta2, one trial under two names; allowed: another"),
        ({"fresh_latents": True}, "fresh_latents=True is for a G that is updated after D"),
        ({"loss": "wasserstein"}, "loss='wasserstein' needs a smooth D"),
        ({"r1_gamma": 1.0}, "discriminator_norm='own' is batch norm here"),
        ({"gradient_penalty": 1.0}, "discriminator_norm='own' is batch norm here"),
        ({"mixed_batches": True, "discriminator_norm": "none"}, "mixed_batches=True does nothing without batch norm"),
        ({"mixed_generator": True}, "mixed_generator=True judges G in the batch that D is taught on"),
        ({"mixed_batches": True, "mixed_generator": True, "generator_steps": 2}, "mixed_generator=True judges G in"),
        ({"mixed_batches": True, "architecture": "fc"}, "mixed_batches=True does nothing without batch norm"),
        ({"instance_noise_schedule": "linear"}, "instance_noise_schedule='linear' has no noise to take down"),
        ({"real_label_low": 1.1}, "real_label_high=1.0 is out of range; allowed: at least real_label_low=1.1"),
        ({"label_flip_rate": 0.5}, "label_flip_rate=0.5 is out of range; allowed: in [0, 0.5)"),
        (
            {"generator_depth": 3, "generator_dropout": 0.3},
            "generator_dropout=0.3 does nothing in dc at generator_depth",
        ),
        ({"discriminator_depth": 0, "discriminator_dropout": 0.3}, "discriminator_dropout=0.3 does nothing in dc"),
        (
            {"architecture": "fc", "generator_depth": 0, "generator_norm": "none", "generator_dropout": 0.3},
            "generator_dropout=0.3 does nothing in fc at generator_depth below 1; allowed there: 0",
        ),
        (
            {"architecture": "fc", "discriminator_depth": 0, "discriminator_dropout": 0.3},
            "discriminator_dropout=0.3 does nothing in fc at discriminator_depth below 1; allowed there: 0",
        ),
        (
            {"architecture": "fc", "generator_depth": 0, "generator_norm": "batch"},
            "generator_norm='batch' normalises hidden",
        ),
        (
            {"discriminator_depth": 1, "discriminator_norm": "none"},
            "discriminator_norm='none' is what dc has anyway at",
        ),
        ({"augmentation": "cutouts"}, "unknown augmentation 'cutouts' (did you mean 'cutout'?)"),
        ({"augmentation": "cutout+none"}, "unknown augmentation 'none'; valid: brightness, translation, cutout"),
        ({"augmentation": "cutout+cutout"}, "augmentation='cutout+cutout'"),
        ({"sync_batch_norm": True}, "sync_batch_norm=True does nothing on one rank"),
        (
            {"sync_batch_norm": True, "world_size": 2, "discriminator_norm": "none", "generator_norm": "none"},
            "sync_batch_norm=True does nothing without batch norm",
        ),
        ({"generator_steps": 0}, "generator_steps=0 is out of range"),
        (
            {"real_label_low": 0.2, "fake_label_high": 0.3},
            "real_label_low=0.2 tells D that real images are no more real than fake ones; allowed: above fake_label",
        ),
        ({"architecture": "fc", "discriminator_norm": "none"}, "discriminator_norm='none' is what fc has anyway"),
        (
            {"generator_depth": 1},
            "generator_depth=1 is out of range; allowed: at least 2 for dc at resolution=28, which takes 2",
        ),
        (
            {"resolution": 96},
            "generator_depth=2 is out of range; allowed: at least 4 for dc at resolution=96, which takes 4",
        ),
        (
            {"generator_depth": 99},
            "generator_depth=99 is out of range; allowed: at most 12 for dc, where each further layer",
        ),
        (
            {"mixed_batches": True, "discriminator_depth": 1},
            "mixed_batches=True does nothing without batch norm in D; allowed with architecture='dc'",
        ),
        ({"latent_dim": 10**30}, "is out of range; allowed: from 1 to 65536"),
        ({"kimg": 10**400}, "must be of type float"),
        ({"kimg": 1e306}, "kimg=1e+306 is out of range; allowed: from 0 to 1e9"),
        ({"code": "zz"}, "code='zz' is out of range; allowed: '' or 16 hex digits"),
        (
            {"discriminator_depth": 6},
            "discriminator_depth=6 is out of range; allowed: at most 5 for dc at resolution=28",
        ),
    ],
)
def test_contradictions_are_refused_with_the_reason(changes: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        TrialSpec(**{**VALUES, **changes})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_of_a_users_own_network_nothing_is_presumed() -> None:
    own = {**VALUES, "architecture": "mine", "code": "0" * 16, "generator_depth": 0, "discriminator_depth": 9}
    for changes in ({"mixed_batches": True}, {"discriminator_norm": "none"}, {"r1_gamma": 1.0}):
        TrialSpec(**{**own, **changes})
    TrialSpec(**{**own, "sync_batch_norm": True, "world_size": 2, "generator_norm": "none"})


def test_identity_is_golden() -> None:
    """A change here is a change of identity: deliberate, and with RESULT_VERSION raised."""
    assert TrialSpec(**VALUES).trial_id == "0fb59406ccce891e"


def test_a_revised_trick_renames_its_trials() -> None:
    """Of convolutions under a penalty the first results were wrong: the optimizer took the gradients' memory amiss."""
    penalised = TrialSpec(**{**VALUES, "discriminator_norm": "none", "r1_gamma": 1.0})
    assert penalised.trial_id == "bb726e77a5980b7e" != penalised.former_id
    without = TrialSpec(**VALUES)
    assert without.trial_id == without.former_id
    told = {k: v for k, v in penalised.to_dict().items() if k not in OFF or v != OFF[k]}
    assert penalised.former_id == content_hash({"result_version": RESULT_VERSION, **told})


def test_pixels_name_data_and_paths_do_not() -> None:
    paths = ("folder:pictures", "folder:pictures/", "folder:/somewhere/else", "folder:pictures@500")
    assert len({TrialSpec(**{**VALUES, "dataset": path}).trial_id for path in paths}) == 1
    assert TrialSpec(**{**VALUES, "dataset": "folder:x"}).trial_id != TrialSpec(**VALUES).trial_id
    named = [ScoreProtocol(**{**PROTOCOL, "reference": f"{path}/reference"}) for path in paths]
    assert len({protocol.protocol_id for protocol in named}) == 1 and len({p.path_id for p in named}) == 4
    assert ScoreProtocol(**PROTOCOL).path_id == ScoreProtocol(**PROTOCOL).protocol_id


def test_another_seed_changes_nothing_else() -> None:
    spec = TrialSpec(**VALUES)
    assert spec.trial_id and spec.at_seed(7) == TrialSpec(**{**VALUES, "seed": 7})
    assert spec.at_seed(7).trial_id == TrialSpec(**{**VALUES, "seed": 7}).trial_id != spec.trial_id
    with pytest.raises(UserError, match="seed=-1 is out of range"):
        spec.at_seed(-1)


def test_spelling_of_numbers_renames_nothing() -> None:
    assert TrialSpec(**{**VALUES, "kimg": 50}).trial_id == TrialSpec(**VALUES).trial_id
    assert TrialSpec(**{**VALUES, "instance_noise": -0.0}).trial_id == TrialSpec(**VALUES).trial_id


def test_round_trip() -> None:
    spec = TrialSpec(**VALUES)
    assert TrialSpec.from_dict(spec.to_dict()) == spec
    older = {name: value for name, value in spec.to_dict().items() if name != "r1_gamma"}
    assert TrialSpec.from_dict(older) == spec, "a trick that was not there yet when it was written is off"
    older = {k: v for k, v in spec.to_dict().items() if k not in ("code", "label_flip_rate")}
    assert TrialSpec.from_dict(older) == spec, "a trick that was not there yet is off"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent_dim", 0),
        ("latent_dim", 1.5),
        ("latent_dim", True),
        ("latent_std", 0.0),
        ("latent_std", float("nan")),
        ("latent_std", float("inf")),
        ("instance_noise", -0.1),
        ("discriminator_dropout", 1.0),
        ("generator_dropout", -0.1),
        ("label_flip_rate", -0.01),
        ("latent_dim", -3),
        ("batch_size", 1),
        ("kimg", -1.0),
        ("kimg", float("inf")),
        ("generator_lr", 0.0),
        ("channels", 2),
        ("resolution", 0),
        ("seed", -1),
        ("world_size", 3),
        ("architecture", "dcc"),
        ("generator_norm", "layer"),
        ("loss", "hingee"),
    ],
)
def test_bad_values_are_refused_in_one_line(field: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        TrialSpec(**{**VALUES, field: value})
    message = str(caught.value)
    assert "\n" not in message
    assert (field in message or field == "world_size") and str(value) in message


def test_an_unknown_field_names_the_meant_one() -> None:
    with pytest.raises(UserError, match="did you mean 'latent_dim'"):
        TrialSpec.from_dict({**VALUES, "latent_dims": 3})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match="seed"):
        TrialSpec.from_dict({k: v for k, v in VALUES.items() if k != "seed"})


PROTOCOL = {
    "extractor": "classifier",
    "extractor_hash": "a" * 16,
    "reference": "mnist-5k/reference",
    "reference_hash": "b" * 16,
    "num_reference": 2000,
    "num_generated": 2000,
    "resolution": 28,
    "channels": 1,
    "kid_gamma": 0.01,
    "versions": (("torch", "2.14.1"),),
}


def test_protocol_identity_and_round_trip() -> None:
    protocol = ScoreProtocol(**PROTOCOL)
    assert ScoreProtocol.from_dict(protocol.to_dict()) == protocol
    changed = [
        {"extractor_hash": "c" * 16},
        {"num_generated": 1000},
        {"weights": "raw"},
        {"versions": (("torch", "3"),)},
    ]
    assert len({ScoreProtocol(**{**PROTOCOL, **c}).protocol_id for c in changed} | {protocol.protocol_id}) == 5


def test_pretrained_fields_rename_no_other_protocol() -> None:
    plain = ScoreProtocol(**PROTOCOL)
    assert plain.protocol_id == "ee2897f36bf3", "every stored score would be of another protocol"
    layered = ScoreProtocol(**PROTOCOL, feature_layer="2048")
    prepared = ScoreProtocol(**PROTOCOL, preparation="grey tiled to RGB")
    assert len({p.protocol_id for p in (plain, layered, prepared)}) == 3


def test_protocol_refuses_fewer_images_than_a_kid_subset() -> None:
    with pytest.raises(UserError, match="num_generated=500"):
        ScoreProtocol(**{**PROTOCOL, "num_generated": 500})


def test_no_field_is_called_as_a_metric() -> None:
    """Both are columns of the results table."""
    fields = {f.name for f in dataclasses.fields(TrialSpec)}
    assert not fields & {*METRICS, *SCORES, *FROM_CURVES}
