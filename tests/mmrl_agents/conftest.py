from pathlib import Path

import pytest
from tiny_model import save_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny untrained model; not to be written to."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
