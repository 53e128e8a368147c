"""Every study of this repository."""

from harness.catalog import Catalog
from harness.study import Study
from studies.aa import AA
from studies.architecture import ARCHITECTURE
from studies.claims import CLAIMS
from studies.combined import COMBINED
from studies.depth import DEPTH
from studies.modern import MODERN
from studies.noise import NOISE
from studies.number_format import NUMBER_FORMAT
from studies.referee import REFEREE
from studies.reference import REFERENCE
from studies.rules import RULES
from studies.stabilization import STABILIZATION
from studies.tuned import AA_TUNED, ARCHITECTURE_TUNED

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        *(ARCHITECTURE, DEPTH, STABILIZATION, NOISE, MODERN, COMBINED),  # the founding document's claims
        *(RULES, NUMBER_FORMAT, ARCHITECTURE_TUNED, REFERENCE, AA, AA_TUNED),  # the harness's own choices
        REFEREE,  # what a paper claims
    )
}
CATALOG = Catalog(STUDIES, CLAIMS)
find = CATALOG.find
