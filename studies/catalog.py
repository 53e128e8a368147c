"""Every study that the program knows by name."""

from harness.study import Study
from studies.architecture import ARCHITECTURE
from studies.depth import DEPTH
from studies.noise import NOISE
from studies.stabilization import STABILIZATION

STUDIES: dict[str, Study] = {study.name: study for study in (ARCHITECTURE, DEPTH, STABILIZATION, NOISE)}
