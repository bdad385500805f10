"""The Vagrantfile and what it runs in its machine agree; Debian's vagrant reads it in `make test-install`."""

from __future__ import annotations

import re
from pathlib import Path

from scripts import vm
from scripts.vm_machine import Machine

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


def test_the_guides_page_has_the_machines_as_they_are() -> None:
    page = (ROOT / "docs" / "virtual-machines.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    cells = {key: (ours, vagrants) for key, ours, vagrants in rows}
    machine = Machine(Path("vmlinuz"), Path("busybox"), kvm=True)
    assert cells["memory"][0].startswith(machine.memory.replace("G", " GiB"))
    assert cells["processors"][0].startswith(str(machine.processors))
    memory, processors = re.findall(r"memory, processors = (\d+), (\d+)", VAGRANTFILE)[0]
    assert cells["memory"][1] == f"{int(memory) // 1024} GiB"
    assert cells["processors"][1] == processors
    for kvm in (True, False):
        line = vm.describe(Machine(Path("vmlinuz-6.1.0-56-amd64"), Path("busybox"), kvm))
        assert f"\n{line}\n" in page
    in_vagrantfile = re.findall(r"^#   (vagrant ssh .*|kubectl .*)$", VAGRANTFILE, re.MULTILINE)
    assert len(in_vagrantfile) == 4
    into_files = re.findall(r"vagrant ssh .*>.*", page)
    assert len(into_files) == 2
    assert [each for each in into_files if " -- -T >" not in each] == []
    assert [line for line in in_vagrantfile if f"\n{line}\n" not in page] == []
