"""weave: an agent on each node; together they make one L2 network, without a centre and without the API server.

knowledge, ring, addresses, peer   pure: what a peer knows, who owns which addresses, what it tells whom
wire, connections                  the same over TCP 6783
data_plane                         the bridge `weave` and the VXLAN tunnels of a node
interface, status                  127.0.0.1:6784, for the node's CNI plugin and for people
"""
