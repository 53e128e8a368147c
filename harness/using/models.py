"""A generator for other programs: ONNX and torch.export, each checked against the generator itself."""

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.scoring.sampling import latents
from harness.using.generator import TrainedGenerator

TOLERANCE = 1e-5
"""So much an output may differ from the generator's own, at most; images lie in [-1, 1]."""

CHECKED_AT = (1, 3, 64)
"""Numbers of latents at which outputs are compared: a model that only takes as many as it was made with is no use."""


def exported(generator: TrainedGenerator) -> bytes:
    """The generator as a file of torch.export, for `torch.export.load(file).module()`; needs torch and nothing else.

    Raises:
        UserError: it cannot be exported, or what was exported gives other images.
    """
    buffer = io.BytesIO()
    with _quietly("torch.export"):
        program = torch.export.export(generator, (_example(generator),), dynamic_shapes=_any_number())
        torch.export.save(program, buffer)
        buffer.seek(0)
        again = torch.export.load(buffer).module()
    _require_same(generator, lambda z: again(torch.from_numpy(z)).numpy(), "torch.export")
    return buffer.getvalue()


def onnx(generator: TrainedGenerator) -> bytes:
    """The generator as an ONNX file: input `z` (N, latent_dim) float32 of N(0, 1), output `images` (N, C, H, W).

    Raises:
        UserError: the packages of the extra `onnx` are missing, it cannot be exported, or ONNX Runtime gives other
            images.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}; `pip install 'gan-ablation[onnx]'`, or take --to torch")
    onnxruntime = importlib.import_module("onnxruntime")
    with _quietly("ONNX"):
        program = torch.onnx.export(
            generator,
            (_example(generator),),
            dynamo=True,
            dynamic_shapes=_any_number(),
            input_names=["z"],
            output_names=["images"],
            verbose=False,
        )
        if program is None:
            raise UserError("torch made no ONNX program of this network; take --to torch")
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _require_same(generator, lambda z: np.asarray(session.run(["images"], {"z": z})[0]), "ONNX Runtime")
    return content


def _example(generator: TrainedGenerator) -> torch.Tensor:
    return torch.zeros(2, generator.latent_dim)


def _any_number() -> dict[str, Any]:
    return {"z": {0: torch.export.Dim("number")}}


def _require_same(generator: TrainedGenerator, other: Callable[[np.ndarray], np.ndarray], what: str) -> None:
    for number in CHECKED_AT:
        z = torch.cat(list(latents(number, generator.latent_dim, 0)))
        with torch.no_grad():
            apart = float(np.abs(generator(z).numpy() - other(z.numpy())).max())
        if not apart <= TOLERANCE:
            raise UserError(
                f"{what} gives other images than the generator itself: at {number} latents they differ by up to "
                f"{apart:.2g}, and {TOLERANCE:g} is allowed; nothing was written"
            )


@contextlib.contextmanager
def _quietly(what: str) -> Iterator[None]:
    """Exporters talk; what they raise is a refusal of the user's network."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            yield
    except UserError:
        raise
    except Exception as error:  # whatever an exporter trips over
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{what} cannot take this network: {reason.strip():.200}") from error
    finally:
        logging.disable(logging.NOTSET)
