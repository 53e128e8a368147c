"""What the founding document claims, and the questions that test it.

A reference is study/question, or study/question/level for one level of a contrast. A claim without one is not tested.
"""

CLAIMS: dict[str, tuple[str, ...]] = {
    "DC images are clearly better than FC images": ("architecture/dc-or-fc",),
    "... because of convolutions, not of batch norm or size": ("architecture/batch-norm", "architecture/size"),
    "A generator with fewer layers learns faster": ("depth/speed-dc", "depth/speed-fc"),
    "... it lowers its loss while D is still learning": ("depth/loss-dc", "depth/loss-fc"),
    "... so that D no longer outruns it": ("depth/balance-dc", "depth/balance-fc"),
    "... but its image quality falls": ("depth/quality-dc", "depth/quality-fc"),
    # From the balanced rate up, of seeds of their own: over all rates a slow D, which fails more often, would decide.
    "D converging faster than G is the common failure": ("stabilization/outrun-dc", "stabilization/outrun-fc"),
    "... over all rates, a slow D's among them": ("stabilization/faster-d-dc", "stabilization/faster-d-fc"),
    "(a) Several G updates per D update help": (
        "stabilization/remedies-dc/2 G steps per D step",
        "stabilization/remedies-fc/2 G steps per D step",
    ),
    "(b) Fewer G layers help": ("stabilization/remedies-fc/one fewer G layer",),
    "(c) More D layers help": (
        "stabilization/remedies-dc/one more D layer",
        "stabilization/remedies-fc/one more D layer",
        "depth/d-depth-quality",
    ),
    "... because they slow D down": (
        "depth/d-depth-balance",
        "stabilization/balance-dc/one more D layer",
        "stabilization/balance-fc/one more D layer",
    ),
    "(d) Separate batches for D beat one mixed batch": ("stabilization/batches",),
    "(e) Label smoothing helps": (
        "stabilization/remedies-dc/soft labels",
        "stabilization/remedies-fc/soft labels",
        "stabilization/remedies-dc/one-sided smoothing",
        "stabilization/remedies-fc/one-sided smoothing",
    ),
    "(f) Noisy labels help": (
        "stabilization/remedies-dc/5% flipped labels",
        "stabilization/remedies-fc/5% flipped labels",
    ),
    "There is a sweet spot of noise: the latent's scale": ("noise/latent-std-fc",),
    "... the latent's dimension": ("noise/latent-dim-dc",),
    "... noise on D's images": ("noise/instance-noise-dc",),
    "Too much noise breaks the balance of G and D": ("noise/balance-fc/10",),
    "Too little noise: the model converges quickly": ("noise/speed-fc",),
    "... without learning the data": ("noise/variety-fc",),
    "More noise leaves visible noise in the images": ("noise/visible-noise-dc",),
}
