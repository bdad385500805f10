"""Builds and installs the package `mininetes`; tool configuration is in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PART_FOLDERS = ("topologies", "cni_scripts", "proxy_rules", "experiments")


def part_files() -> list[str]:
    """List the files of the four part folders, relative to the repository root."""
    files = (file for folder in PART_FOLDERS for file in sorted((ROOT / folder).rglob("*")))
    return [str(f.relative_to(ROOT)) for f in files if f.is_file() and f.suffix != ".pyc"]


class BuildWithParts(build_py):
    """Copies the part folders into the package as `mininetes/_parts`; a checkout uses them where they are."""

    def _copies(self) -> dict[str, str]:
        if getattr(self, "editable_mode", False):
            return {}
        return {str(Path(self.build_lib, "mininetes", "_parts", file)): file for file in part_files()}

    def run(self) -> None:
        """Build the modules, then copy the parts; executables stay executable."""
        super().run()
        for target, source in self._copies().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(str(ROOT / source), target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name the copied parts too, so that installers record them."""
        return [*super().get_outputs(include_bytecode), *self._copies()]

    def get_output_mapping(self) -> dict[str, str]:
        """Map each copied part to the file it comes from."""
        return {**super().get_output_mapping(), **self._copies()}

    def get_source_files(self) -> list[str]:
        """Name the parts too, so that a source distribution has them."""
        return [*super().get_source_files(), *part_files()]


def version() -> str:
    """Read the version from the package, without importing it."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "mininetes" / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit('mininetes/__init__.py: no line __version__ = "..."')
    return found.group(1)


setup(
    name="mininetes",
    version=version(),
    description="Kubernetes cluster networking, emulated on one Linux kernel with Mininet",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The Mininetes authors",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    classifiers=["Operating System :: POSIX :: Linux", "Programming Language :: Python :: 3"],
    packages=find_packages(include=["mininetes", "mininetes.*"]),
    package_data={
        "mininetes": [
            "py.typed",
            "apiserver/kubernetes-1.30.json",
            "apiserver/protobuf-1.33.json",
            "cli/new_repository/**/*.in",
        ]
    },
    python_requires=">=3.10",
    # Mininet itself comes from the distribution (package mininet): it is not in the package index.
    install_requires=[
        "pyroute2>=0.9",
        "scapy>=2.5",
        "aiohttp>=3.12",
        'async-timeout>=4; python_version < "3.11"',
        "pydantic>=2",
        "PyYAML>=5.4",
        "click>=8.2",
        "rich>=13",
        "numpy>=1.21",
        "matplotlib>=3.5",
        "h11>=0.14",
        "orjson>=3.6",
        "cryptography>=3.4",
        "jsonpatch>=1.32",
        "dnspython>=2.3",
        "protobuf>=4.22",
    ],
    extras_require={
        "test": ["pytest>=7.2"],  # for the fixtures of mininetes.testing
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "mypy>=1.11",
            "import-linter>=2.1",
            "vulture>=2.11",
            "types-PyYAML",
            "types-protobuf",
            "kubernetes>=28",
            "virtme-ng>=1.30; platform_machine == 'x86_64'",
            "setuptools>=66",
            "wheel",
        ],
    },
    entry_points={
        "console_scripts": ["mininetes = mininetes.cli:main", "mn8s = mininetes.cli:main"],
        "pytest11": ["mininetes = mininetes.testing.plugin"],
    },
    cmdclass={"build_py": BuildWithParts},
)
