from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.engine.transport.certificates import create_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment of three parties, a client and an owner."""
    folder = tmp_path_factory.mktemp("deployment") / "certificates"
    create_certificates(folder, parties=3, clients=["alice"], owners=["bob"])
    return folder
