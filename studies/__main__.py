"""`python -m studies`."""

from harness import garbage, interrupts
from harness.execution.environment import sanitise


def main() -> None:
    """Run the program. Signals are taken over first, as the program's imports take a second."""
    interrupts.take_over()
    garbage.search_seldom()
    sanitise()  # before anything is imported that looks at the environment
    from harness.program import main as program
    from studies.catalog import CATALOG

    program(CATALOG)


if __name__ == "__main__":
    main()
