"""Quantities of resources as Kubernetes writes them: "100m", "0.5", "128Mi", "1e3". Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from mininetes.errors import BadInput

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


def quantity(value: Any) -> Decimal:
    """The number that a quantity stands for. Raises BadInput for what is none."""
    found = _FORM.fullmatch(str(value))
    if found is None:
        raise BadInput("quantity", value, "a number with a suffix such as m, k, Ki, M, Mi, G, Gi, or an exponent")
    number, exponent, suffix = found.groups()
    if exponent:
        return Decimal(number + exponent)
    return Decimal(number) * (_FACTORS[suffix] if suffix else 1)
