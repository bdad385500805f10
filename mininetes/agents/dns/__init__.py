"""Names of the cluster: an authoritative DNS server for pods, as CoreDNS's kubernetes plugin answers."""
