"""What tests of commands share."""

import pytest

from tests.tiny_flux import tiny_flux


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny random FLUX pipeline."""
    folder = tmp_path_factory.mktemp("model")
    tiny_flux().save_pretrained(folder)
    return str(folder)
