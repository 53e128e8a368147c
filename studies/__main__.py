"""`python -m studies`."""

from harness import interrupts
from harness.execution.environment import seal


def main() -> None:
    """Run the program. Signals are taken over first, as the program's imports take a second."""
    interrupts.take_over()
    seal()  # before anything is imported that looks at the environment
    from studies.cli import main as program

    program()


if __name__ == "__main__":
    main()
