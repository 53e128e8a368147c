"""Do the verdicts hold when every arm is tuned alike? Lucic et al. 2018 found that this decides most rankings."""

from harness.study import LogUniform, Tuning
from studies.aa import AA
from studies.architecture import ARCHITECTURE

LEARNING_RATES = Tuning(
    fields={"generator_lr": LogUniform(3e-5, 3e-3), "discriminator_lr": LogUniform(3e-5, 3e-3)},
)
"""Both players' rates over two decades; at each seed three candidates beside the arm as it is declared."""

ARCHITECTURE_TUNED = ARCHITECTURE.tuned(LEARNING_RATES)
AA_TUNED = AA.tuned(LEARNING_RATES)
