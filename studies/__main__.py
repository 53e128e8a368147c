"""`python -m studies`."""

import signal


def main() -> None:
    """Run the program. Signals are taken over first, as the program's imports take a second."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which ends it without a traceback, until they are
    from harness import garbage, interrupts
    from harness.execution.environment import sanitise

    interrupts.take_over()
    garbage.search_seldom()
    sanitise()  # before anything is imported that looks at the environment
    from harness.program import main as program
    from studies.catalog import CATALOG

    program(CATALOG)


if __name__ == "__main__":
    main()
