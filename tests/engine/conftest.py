from pathlib import Path

import pytest

from jobs.engine.model import LoadedModel, load_model


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder / "model"))
