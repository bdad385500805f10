"""Names of the cluster: an authoritative DNS server for pods, as CoreDNS's kubernetes plugin answers."""

from mininetes.agents.dns.manifests import dns_manifests
from mininetes.agents.dns.resolv_conf import resolv_conf
from mininetes.agents.dns.server import DnsBuiltIn, DnsServer

__all__ = ["DnsBuiltIn", "DnsServer", "dns_manifests", "resolv_conf"]
