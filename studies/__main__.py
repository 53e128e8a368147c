"""`python -m studies`."""

from harness.scheduling.environment import seal

seal()  # before anything is imported that looks at the environment

from studies.cli import main  # noqa: E402

main()
