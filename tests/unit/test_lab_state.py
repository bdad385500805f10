"""Where labs have their state."""

from __future__ import annotations

from pathlib import Path

import pytest

from mininetes.errors import BadInput
from mininetes.lab import state


def test_a_place_whose_sockets_would_have_too_long_a_path_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("x" * 100) / "mininetes"
    place.mkdir(parents=True)
    monkeypatch.setattr(state, "base", lambda: place)
    with pytest.raises(BadInput, match=f"XDG_RUNTIME_DIR: '{place.parent}' is not valid: shorter: .* 107 bytes"):
        state.hold("lab1")
    assert list(place.iterdir()) == []
