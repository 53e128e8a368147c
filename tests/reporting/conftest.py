"""The made-up results of tests/analysis."""

from tests.analysis.conftest import *  # noqa: F403
