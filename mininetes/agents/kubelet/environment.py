"""The environment, command and name files of a container. Pure: what the API has to say is handed in."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers, is_host_network
from mininetes.agents.quantities import quantity
from mininetes.errors import BadInput, MininetesError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$(?:\$|\(([^()$]*)\))")
_KEYED_FIELD = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")


class ConfigError(MininetesError):
    """A container refers to something that is not there: reason CreateContainerConfigError."""


@dataclass(frozen=True)
class Surroundings:
    """What a container's environment depends on besides its pod."""

    node: str
    node_address: str
    pod_address: str = ""
    service_host: str = ""
    service_port: int = 443
    objects: Mapping[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)
    """("configmaps" or "secrets", name) -> the object, None when there is none."""


def references(pod: Pod) -> set[tuple[str, str]]:
    """The ("configmaps" or "secrets", name) that the pod's containers and volumes read."""
    found: set[tuple[str, str]] = set()
    for container in (*containers(pod), *init_containers(pod)):
        for source in container.get("envFrom") or []:
            for key, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
                if key in source:
                    found.add((kind, source[key].get("name", "")))
        for variable in container.get("env") or []:
            for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
                if key in (variable.get("valueFrom") or {}):
                    found.add((kind, variable["valueFrom"][key].get("name", "")))
    for volume in pod["spec"].get("volumes") or []:
        if "configMap" in volume:
            found.add(("configmaps", volume["configMap"].get("name", "")))
        if "secret" in volume:
            found.add(("secrets", volume["secret"].get("secretName", "")))
    return found


def data_of(kind: str, obj: Mapping[str, Any]) -> dict[str, bytes]:
    """The entries of a ConfigMap or Secret."""
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {**{key: value.encode() for key, value in (obj.get("data") or {}).items()}, **binary}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) where NAME is known; $$ is a plain dollar (Kubernetes' expansion rules)."""

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return _REFERENCE.sub(replaced, text)


def environment(pod: Pod, container: Mapping[str, Any], around: Surroundings) -> dict[str, str]:
    """The variables of a container. Raises ConfigError for a reference that leads nowhere."""
    services = service_variables(around)
    found: dict[str, str] = {"PATH": PATH, "HOSTNAME": hostname(pod, around.node)}
    for source in container.get("envFrom") or []:
        found |= _all_of(source, around)
    own: dict[str, str] = {}
    for variable in container.get("env") or []:
        name = variable["name"]
        if variable.get("valueFrom"):
            value = _value_from(pod, container, variable["valueFrom"], around)
            if value is None:
                continue
        else:
            value = expand(str(variable.get("value") or ""), {**services, **found, **own})
        own[name] = value
    return {**services, **found, **own}


def command_line(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The argv of a container with its variables filled in."""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return [expand(str(word), variables) for word in words]


def service_variables(around: Surroundings) -> dict[str, str]:
    """Where the API is: the variables of the service `kubernetes`, as programs with a client library expect them.

    Other services get none: each pod would have to list them, and names are what DNS is for.
    """
    if not around.service_host:
        return {}
    port = {"name": "https", "port": around.service_port, "protocol": "TCP"}
    return _variables_of("kubernetes", around.service_host, [port])


def hostname(pod: Pod, node: str) -> str:
    """What `hostname` says in the pod: at most 63 characters, as Linux and DNS want it."""
    if is_host_network(pod):
        return node
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def hosts_file(pod: Pod, address: str, node: str, domain: str) -> str:
    """/etc/hosts of a pod, as a kubelet writes it."""
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost"]
    name = hostname(pod, node)
    subdomain = pod["spec"].get("subdomain")
    whole = f"{name}.{subdomain}.{pod['metadata']['namespace']}.svc.{domain}\t" if subdomain else ""
    lines.append(f"{address}\t{whole}{name}")
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([each["ip"], *(each.get("hostnames") or [])]) for each in aliases]
    return "\n".join(lines) + "\n"


def _variables_of(name: str, address: str, ports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The variables of one service: Kubernetes' own and those of Docker's links."""
    prefix = name.upper().replace("-", "_")
    if not ports:
        return {}
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for number, port in enumerate(ports):
        protocol = str(port.get("protocol") or "TCP").lower()
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        url = f"{protocol}://{address}:{port['port']}"
        if number == 0:
            found[f"{prefix}_PORT"] = url
        one = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        found |= {one: url, f"{one}_PROTO": protocol, f"{one}_PORT": str(port["port"]), f"{one}_ADDR": address}
    return found


def _all_of(source: Mapping[str, Any], around: Surroundings) -> dict[str, str]:
    """All entries of an envFrom source."""
    prefix = source.get("prefix") or ""
    found: dict[str, str] = {}
    for key, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        if key in source:
            name = source[key].get("name", "")
            obj = around.objects.get((kind, name))
            if obj is None and not source[key].get("optional"):
                raise ConfigError(f'{kind[:-1]} "{name}" not found')
            for each, value in data_of(kind, obj or {}).items():
                found[prefix + each] = value.decode(errors="replace")
    return found


def _value_from(pod: Pod, container: Mapping[str, Any], source: Mapping[str, Any], around: Surroundings) -> str | None:
    """The value that a variable takes from elsewhere; None when it is optional and not there."""
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"].get("fieldPath", ""), around)
    if "resourceFieldRef" in source:
        return _resource_value(pod, container, source["resourceFieldRef"])
    for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if key in source:
            wanted = source[key]
            name, entry, optional = wanted.get("name", ""), wanted.get("key", ""), wanted.get("optional")
            obj = around.objects.get((kind, name))
            if obj is None:
                if optional:
                    return None
                raise ConfigError(f'{kind[:-1]} "{name}" not found')
            data = data_of(kind, obj)
            if entry not in data:
                if optional:
                    return None
                what = "ConfigMap" if kind == "configmaps" else "Secret"
                raise ConfigError(f"couldn't find key {entry} in {what} {pod['metadata']['namespace']}/{name}")
            return data[entry].decode(errors="replace")
    raise ConfigError(f"env: valueFrom with {', '.join(source) or 'nothing'} is not known")


def _resource_value(pod: Pod, container: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """What a resourceFieldRef means: a whole number of its divisors, rounded up. Raises ConfigError."""
    if name := reference.get("containerName"):
        named = [each for each in (*containers(pod), *init_containers(pod)) if each["name"] == name]
        if not named:
            raise ConfigError(f"container {name} not found")
        (container, *_) = named
    which = str(reference.get("resource", ""))
    kind, _, resource = which.partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(resource)
    if value is None and kind == "requests":
        value = (resources.get("limits") or {}).get(resource, "0")  # as the API's defaults have it
    if value is None:
        raise ConfigError(f'resourceFieldRef "{which}": the container does not set resources.{which}')
    try:
        divisor = quantity(reference.get("divisor") or "1") or 1  # 0 is what the API shows of none
        return str(math.ceil(quantity(value) / divisor))
    except BadInput as wrong:
        raise ConfigError(f'resourceFieldRef "{which}": {wrong}') from None


def field_value(pod: Pod, path: str, around: Surroundings) -> str:
    """What a fieldRef means. Raises ConfigError for a field that cannot be referred to."""
    keyed = _KEYED_FIELD.fullmatch(path)
    if keyed:
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    values = {
        "metadata.name": pod["metadata"].get("name"),
        "metadata.namespace": pod["metadata"].get("namespace"),
        "metadata.uid": pod["metadata"].get("uid"),
        "spec.nodeName": around.node,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName") or "default",
        "status.hostIP": around.node_address,
        "status.hostIPs": around.node_address,
        "status.podIP": around.pod_address,
        "status.podIPs": around.pod_address,
    }
    if path not in values:
        raise ConfigError(f"fieldRef \"{path}\" is not one of {', '.join(values)}, metadata.labels['KEY']")
    return str(values[path] or "")
