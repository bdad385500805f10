"""Conformance of CNI executables: rules of the specification, each tried on a throw-away host of its own.

    cni-check ──> subjects ──launch──> lab ──> engine: for each subject, version and rule
                                                 a fresh host (namespaces, mounts) ──> the plugin ──> kernel state
                 <── verdicts: passed, failed (expected, seen), not applicable (reason) ──┘

`rule` has what a rule and a verdict are; the rules themselves are in `rules_*`, one function each.
"""
