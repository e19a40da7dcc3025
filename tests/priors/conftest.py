from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def public() -> ModuleType:
    return pytest.importorskip("audio_diffusion_pytorch")
