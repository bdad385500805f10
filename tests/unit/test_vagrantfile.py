"""The Vagrantfile and what it runs in its machine agree; Debian's vagrant reads it in `make test-install`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VAGRANTFILE = (ROOT / "Vagrantfile").read_text()
SCRIPT = (ROOT / "scripts" / "vagrant.sh").read_text()


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return int(found[1])


def test_the_forwarded_port_leads_to_the_one_that_the_host_names() -> None:
    """A kubeconfig names 127.0.0.1 and the port inside: the host's port must be the same."""
    assert number(r"guest: (\d+)", VAGRANTFILE) == number(r"(?m)^OUTSIDE_PORT=(\d+)", SCRIPT)
    inside = number(r"(?m)^INSIDE_PORT=(\d+)", SCRIPT)
    assert number(r"host: (\d+)", VAGRANTFILE) == inside
    assert number(r"mininetes up --api-port (\d+)", VAGRANTFILE) == inside


def test_what_set_up_makes_is_not_copied_into_the_machine() -> None:
    for made in (".venv/", ".setup-stamp", "results/", "build/", "dist/"):
        assert f'"{made}"' in VAGRANTFILE


def test_both_providers_have_the_memory() -> None:
    for provider in ("virtualbox", "libvirt"):
        assert re.search(rf'provider "{provider}" do \|machine\|\n +machine.memory = memory\n', VAGRANTFILE)


def test_it_runs_the_script_that_is_tried_in_a_clean_root() -> None:
    assert '"/vagrant/scripts/vagrant.sh"' in VAGRANTFILE
    assert "scripts/vagrant.sh" in (ROOT / "scripts" / "fresh_machine.sh").read_text()
