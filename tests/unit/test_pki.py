"""The lab's certificate authority, and the kubeconfig that names it."""

from __future__ import annotations

import asyncio
import base64
import ssl

import pytest
import yaml

from mininetes.apiserver.kubeconfig import kubeconfig
from mininetes.apiserver.pki import KeyPair, Pki, new_token
from tests.unit.running_api import listening


async def handshake(server: KeyPair, ca_pem: str, name: str) -> None:
    """Connect as a client that trusts that authority and expects that name."""
    sock = listening()
    started = await asyncio.start_server(lambda _, writer: writer.close(), sock=sock, ssl=server.server_context())
    async with started:
        context = ssl.create_default_context(cadata=ca_pem)
        if hasattr(ssl, "VERIFY_X509_STRICT"):
            context.verify_flags |= ssl.VERIFY_X509_STRICT  # what later Pythons ask for by default
        port = sock.getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        writer.close()


def test_a_server_is_known_by_its_names_and_addresses() -> None:
    pki = Pki()
    pair = pki.issue_api_server("node1", ["192.168.1.11", "10.96.0.1"])
    for name in (
        "node1",
        "192.168.1.11",
        "127.0.0.1",
        "localhost",
        "10.96.0.1",
        "kubernetes.default.svc.cluster.local",
    ):
        asyncio.run(handshake(pair, pki.ca_pem, name))
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(pair, pki.ca_pem, "192.168.1.12"))


def test_a_kubelet_is_known_by_its_node() -> None:
    pki = Pki()
    for name in ("node2", "192.168.1.12"):
        asyncio.run(handshake(pki.issue_kubelet("node2", "192.168.1.12"), pki.ca_pem, name))


def test_another_lab_is_not_trusted() -> None:
    ours, theirs = Pki(), Pki()
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(theirs.issue_kubelet("node1", "192.168.1.11"), ours.ca_pem, "node1"))


def test_tokens_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert all(len(new_token()) >= 32 for _ in range(10))


def test_a_kubeconfig_names_server_authority_and_token() -> None:
    config = yaml.safe_load(kubeconfig("https://127.0.0.1:6443", "PEM", "secret", name="lab1"))
    cluster = config["clusters"][0]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == b"PEM"
    context = next(each for each in config["contexts"] if each["name"] == config["current-context"])
    assert context["context"] == {"cluster": cluster["name"], "user": config["users"][0]["name"]}
    assert config["users"][0]["user"] == {"token": "secret"}
