"""All rules, in the order of the report: importing the modules registers them."""

from __future__ import annotations

from mininetes.testbed.cni_check import (
    rules_add,
    rules_call,
    rules_check,
    rules_del,
    rules_delegate,
    rules_life,
    rules_status,
)
from mininetes.testbed.cni_check.rule import RULES

__all__ = ["RULES"]

_MODULES = (rules_add, rules_del, rules_check, rules_delegate, rules_status, rules_life, rules_call)
_PLACES = {module.__name__: place for place, module in enumerate(_MODULES)}

_ordered = sorted(RULES.items(), key=lambda item: _PLACES[item[1].run.__module__])  # stable: as in their modules
RULES.clear()
RULES.update(_ordered)
