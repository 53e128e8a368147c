from pathlib import Path

import pytest

from harness import garbage
from harness.data import PreparedData, prepare
from harness.scoring.extractors import Extractor
from harness.scoring.yardstick import prepare_extractor

garbage.search_seldom()  # as the program does


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def digits(cache: Path) -> PreparedData:
    return prepare("mnist-5k", resolution=28, channels=1, cache=cache)


@pytest.fixture(scope="session")
def extractor(digits: PreparedData, cache: Path) -> Extractor:
    return prepare_extractor("classifier", digits, cache)
