"""The file from which ``kubectl`` learns where the API server is and who its user is."""

from __future__ import annotations

import base64

import yaml


def kubeconfig(server: str, ca_pem: str, token: str, *, name: str = "mininetes", user: str = "admin") -> str:
    """The text of a kubeconfig for one cluster and one user. ``server`` is a URL (https://127.0.0.1:6443)."""
    context = f"{user}@{name}"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": name, "user": user}}],
            "current-context": context,
            "preferences": {},
        },
        sort_keys=False,
    )
