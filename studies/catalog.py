"""Every study that the program knows by name."""

from harness.study import Study
from studies.noise import NOISE

STUDIES: dict[str, Study] = {study.name: study for study in (NOISE,)}
