"""The studies, one file each, and the program that runs them."""

from studies import whole
from studies.catalog import STUDIES, find

__all__ = ["STUDIES", "find", "whole"]
