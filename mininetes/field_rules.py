"""The formats of single fields: names, labels, ports, addresses. Each rule says what is wrong, or "" when nothing is.

The words are those of Kubernetes, which people know and search for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_KEY: Final = "[-._a-zA-Z0-9]+"
_PATTERNS: Final = {text: re.compile(text) for text in (_LABEL, _LABEL_1035, _SUBDOMAIN, _QUALIFIED, _KEY)}
IPV6_REFUSED: Final = "IPv6 is not supported by Mininetes: use IPv4"


# The same few names, labels and addresses come again and again.
_remembered: Final[Callable[[Callable[[str], str]], Callable[[str], str]]] = lru_cache(maxsize=8192)


def too_long(limit: int) -> str:
    """The words for a text beyond its limit."""
    return f"must be no more than {limit} characters"


def _matches(pattern: str, text: str) -> bool:
    return _PATTERNS[pattern].fullmatch(text) is not None


@_remembered
def dns_label_problem(text: str) -> str:
    """RFC 1123 label: names of namespaces, containers, volumes."""
    if len(text) > 63:
        return too_long(63)
    if _matches(_LABEL, text):
        return ""
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
    )


@_remembered
def dns_1035_label_problem(text: str) -> str:
    """RFC 1035 label: names of services."""
    if len(text) > 63:
        return too_long(63)
    if _matches(_LABEL_1035, text):
        return ""
    return (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
        f"validation is '{_LABEL_1035}')"
    )


@_remembered
def dns_subdomain_problem(text: str) -> str:
    """RFC 1123 subdomain: names of most objects."""
    if len(text) > 253:
        return too_long(253)
    if _matches(_SUBDOMAIN, text):
        return ""
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
    )


@_remembered
def qualified_name_problem(text: str) -> str:
    """A label's or annotation's key: an optional prefix (a DNS subdomain and a slash), and a name."""
    prefix, slash, name = text.rpartition("/")
    if slash and not prefix:
        return "prefix part must be non-empty"
    if prefix and (problem := dns_subdomain_problem(prefix)):
        return f"prefix part {problem}"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return f"name part {too_long(63)}"
    if _matches(_QUALIFIED, name):
        return ""
    return (
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        f"'{_QUALIFIED}')"
    )


@_remembered
def label_value_problem(text: str) -> str:
    """A label's value, which may be empty."""
    if len(text) > 63:
        return too_long(63)
    if not text or _matches(_QUALIFIED, text):
        return ""
    return (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
        f"validation is '({_QUALIFIED})?')"
    )


def data_key_problem(text: str) -> str:
    """A key of a config map or secret."""
    if len(text) > 253:
        return too_long(253)
    if not _matches(_KEY, text):
        return (
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            f"'KEY_NAME',  or 'key-name', regex used for validation is '{_KEY}')"
        )
    return f"must not be '{text}'" if text in (".", "..") else "must not start with '..'" if text[:2] == ".." else ""


@_remembered
def port_name_problem(text: str) -> str:
    """An IANA service name: names of container ports."""
    if len(text) > 15:
        return too_long(15)
    if not re.fullmatch("[-a-z0-9]+", text):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", text):
        return "must contain at least one letter (a-z)"
    if "--" in text:
        return "must not contain consecutive hyphens"
    return "must not begin or end with a hyphen" if text[0] == "-" or text[-1] == "-" else ""


def port_problem(number: int) -> str:
    """A port number."""
    return "" if 1 <= number <= 65535 else "must be between 1 and 65535, inclusive"


@_remembered
def ipv4_problem(text: str) -> str:
    """An IPv4 address; IPv6 is refused by name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    return IPV6_REFUSED if address.version == 6 else ""


def ipv4_network_problem(text: str) -> str:
    """An IPv4 range; IPv6 is refused by name."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    if "/" not in text:
        return "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    return IPV6_REFUSED if network.version == 6 else ""


@_remembered
def endpoint_ip_problem(text: str) -> str:
    """An address that an endpoint may have: not the host's own, and none for several hosts."""
    if problem := ipv4_problem(text):
        return problem
    address = ipaddress.IPv4Address(text)
    if address.is_unspecified:
        return "may not be unspecified (0.0.0.0 or ::)"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if address in ipaddress.IPv4Network("224.0.0.0/24"):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return ""
