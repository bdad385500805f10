"""Who may speak to a lab's API servers: its authority, and a token for each component and the administrator."""

from __future__ import annotations

from collections.abc import Iterable

from mininetes.apiserver.kubeconfig import kubeconfig
from mininetes.apiserver.pki import Pki, new_token

ADMIN = "kubernetes-admin"
SCHEDULER = "system:kube-scheduler"
CONTROLLER_MANAGER = "system:kube-controller-manager"
PROXY = "system:kube-proxy"
FABRIC = "system:serviceaccount:kube-system:fabric"
DNS = "system:serviceaccount:kube-system:coredns"
API_SERVER = "system:apiserver"


def kubelet_user(node: str) -> str:
    """The user that a node's kubelet is."""
    return f"system:node:{node}"


class Credentials:
    """The authority and the tokens of one lab, made new with it."""

    def __init__(self, nodes: Iterable[str], name: str) -> None:
        self.name = name
        self.pki = Pki()
        users = [ADMIN, API_SERVER, SCHEDULER, CONTROLLER_MANAGER, PROXY, FABRIC, DNS, *map(kubelet_user, nodes)]
        self._tokens: dict[str, str] = {}
        self.users: dict[str, str] = {}
        """User names by token, as API servers look them up; it grows with the cluster."""
        for user in users:
            self.add(user)

    def add(self, user: str) -> None:
        """Give a user a token. Does nothing when there is one."""
        if user not in self._tokens:
            self._tokens[user] = new_token()
            self.users[self._tokens[user]] = user

    def token(self, user: str) -> str:
        """A user's token. Raises KeyError when there is no such user."""
        return self._tokens[user]

    def kubeconfig(self, server: str, user: str = ADMIN) -> str:
        """What a client needs to be that user at a server (a URL)."""
        return kubeconfig(server, self.pki.ca_pem, self.token(user), name=self.name, user=user)
