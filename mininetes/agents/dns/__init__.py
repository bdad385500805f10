"""Names of the cluster: an authoritative DNS server for pods, as CoreDNS's kubernetes plugin answers."""

from mininetes.agents.dns.manifests import dns_manifests
from mininetes.agents.dns.resolv_conf import resolv_conf
from mininetes.agents.dns.server import DnsServer

__all__ = ["DnsServer", "dns_manifests", "resolv_conf"]
