/*
 * The floor that bring-up is compared with: what the kernel itself takes to make the same cluster,
 * asked for in raw netlink with as few messages and system calls as do it.
 *
 *     floor DIR NODES PODS [COMMAND...]
 *
 * For each of NODES nodes: a network namespace with the bridge cni0, which has 10.244.N.1/24 (or
 * 10.N.0.1/16 where a node has more than 253 pods). For each of its PODS pods:
 *   - a network namespace, held by a bind mount at DIR/pod-N-P, as a container runtime does;
 *   - one message that makes the veth as a port of the bridge, up, with its peer straight in the pod;
 *   - one write of four messages: address, both links of the pod (eth0, lo) up, default route.
 * Every message is acknowledged, and an error ends the run. DIR must be on a file system of the
 * caller's own; the caller's namespaces take it all away. Prints one line of JSON; then runs
 * COMMAND, if there is one, with all of it up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOOPBACK = 1, ETH0 = 2, BRIDGE = 2, FIRST_VETH = 3 }; /* interface indexes: given, not looked up */

struct batch {
	char bytes[2048];
	size_t length;
	struct nlmsghdr *last;
	int messages;
};

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *append(struct batch *batch, const void *data, size_t length)
{
	void *place = batch->bytes + batch->length;

	if (batch->length + NLMSG_ALIGN(length) > sizeof(batch->bytes)) {
		errno = EMSGSIZE;
		fail("batch");
	}
	memset(place, 0, NLMSG_ALIGN(length));
	if (data)
		memcpy(place, data, length);
	batch->length += NLMSG_ALIGN(length);
	if (batch->last)
		batch->last->nlmsg_len = (char *)batch->bytes + batch->length - (char *)batch->last;
	return place;
}

static void message(struct batch *batch, uint16_t type, uint16_t flags, const void *body, size_t length)
{
	struct nlmsghdr header = {
		.nlmsg_len = sizeof(header), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags};

	batch->last = NULL;
	batch->last = append(batch, &header, sizeof(header));
	append(batch, body, length);
	batch->messages++;
}

static struct rtattr *attribute(struct batch *batch, uint16_t type, const void *data, uint16_t length)
{
	struct rtattr head = {.rta_len = RTA_LENGTH(length), .rta_type = type};
	struct rtattr *place = append(batch, &head, sizeof(head));

	if (length)
		append(batch, data, length);
	return place;
}

static void end_nest(struct batch *batch, struct rtattr *nest)
{
	nest->rta_len = batch->bytes + batch->length - (char *)nest;
}

/* Send all messages in one write, then read until each has been acknowledged. */
static void commit(int netlink, struct batch *batch, const char *what)
{
	char answer[8192];
	int waiting = batch->messages;

	if (send(netlink, batch->bytes, batch->length, 0) < 0)
		fail(what);
	while (waiting > 0) {
		ssize_t got = recv(netlink, answer, sizeof(answer), 0);

		if (got < 0)
			fail(what);
		for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
			int error = h->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(h))->error : 0;

			if (error) {
				errno = -error;
				fail(what);
			}
			waiting--;
		}
	}
}

static int open_netlink(void)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int yes = 1;

	if (netlink < 0)
		fail("netlink socket");
	/* acknowledgements without a copy of the request */
	setsockopt(netlink, SOL_NETLINK, 10 /* NETLINK_CAP_ACK */, &yes, sizeof(yes));
	return netlink;
}

static void link_up(struct batch *batch, int index)
{
	struct ifinfomsg body = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	message(batch, RTM_NEWLINK, 0, &body, sizeof(body));
}

static void address(struct batch *batch, int index, uint32_t ip, uint8_t prefix)
{
	struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index};
	uint32_t broadcast;

	ip = htonl(ip);
	broadcast = ip | htonl(0xffffffffu >> prefix);
	message(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	attribute(batch, IFA_LOCAL, &ip, sizeof(ip));
	attribute(batch, IFA_ADDRESS, &ip, sizeof(ip));
	attribute(batch, IFA_BROADCAST, &broadcast, sizeof(broadcast));
}

static void default_route(struct batch *batch, uint32_t gateway)
{
	struct rtmsg body = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
			     .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};

	gateway = htonl(gateway);
	message(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	attribute(batch, RTA_GATEWAY, &gateway, sizeof(gateway));
}

/* A new network namespace, held by a bind mount at PATH; the caller is in it afterwards. */
static int new_namespace(const char *path)
{
	int held = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	int namespace;

	if (held < 0)
		fail(path);
	close(held);
	if (unshare(CLONE_NEWNET) < 0)
		fail("unshare");
	if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		fail("bind mount");
	namespace = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (namespace < 0)
		fail("namespace");
	return namespace;
}

static void make_bridge(int netlink, uint32_t gateway, uint8_t prefix)
{
	struct batch batch = {0};
	struct ifinfomsg body = {.ifi_index = BRIDGE, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct rtattr *info;

	message(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	attribute(&batch, IFLA_IFNAME, "cni0", sizeof("cni0"));
	info = attribute(&batch, IFLA_LINKINFO, NULL, 0);
	attribute(&batch, IFLA_INFO_KIND, "bridge", strlen("bridge"));
	end_nest(&batch, info);
	address(&batch, BRIDGE, gateway, prefix);
	link_up(&batch, LOOPBACK);
	commit(netlink, &batch, "bridge");
}

static void make_veth(int netlink, int pod, int namespace)
{
	struct batch batch = {0};
	struct ifinfomsg body = {.ifi_index = FIRST_VETH + pod, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct ifinfomsg peer_body = {.ifi_index = ETH0};
	char name[IFNAMSIZ];
	int bridge = BRIDGE;
	struct rtattr *info, *data, *peer;

	snprintf(name, sizeof(name), "veth%d", pod);
	message(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	attribute(&batch, IFLA_IFNAME, name, strlen(name) + 1);
	attribute(&batch, IFLA_MASTER, &bridge, sizeof(bridge));
	info = attribute(&batch, IFLA_LINKINFO, NULL, 0);
	attribute(&batch, IFLA_INFO_KIND, "veth", strlen("veth"));
	data = attribute(&batch, IFLA_INFO_DATA, NULL, 0);
	peer = attribute(&batch, VETH_INFO_PEER, NULL, 0);
	append(&batch, &peer_body, sizeof(peer_body));
	attribute(&batch, IFLA_IFNAME, "eth0", sizeof("eth0"));
	attribute(&batch, IFLA_NET_NS_FD, &namespace, sizeof(namespace));
	end_nest(&batch, peer);
	end_nest(&batch, data);
	end_nest(&batch, info);
	commit(netlink, &batch, "veth");
}

static void configure_pod(int netlink, uint32_t ip, uint8_t prefix, uint32_t gateway)
{
	struct batch batch = {0};

	address(&batch, ETH0, ip, prefix);
	link_up(&batch, ETH0);
	link_up(&batch, LOOPBACK);
	default_route(&batch, gateway);
	commit(netlink, &batch, "pod");
}

/* Make one node and its pods. Leaves the caller in the last pod's namespace. */
static void make_node(const char *directory, int node, int pods)
{
	uint8_t prefix = pods > 253 ? 16 : 24;
	uint32_t network = pods > 253 ? 10u << 24 | node << 16 : 10u << 24 | 244u << 16 | node << 8;
	char path[512];
	int on_node;

	snprintf(path, sizeof(path), "%s/node-%d", directory, node);
	close(new_namespace(path));
	on_node = open_netlink();
	make_bridge(on_node, network | 1, prefix);
	for (int pod = 0; pod < pods; pod++) {
		int namespace, in_pod;

		snprintf(path, sizeof(path), "%s/pod-%d-%d", directory, node, pod);
		namespace = new_namespace(path);
		in_pod = open_netlink();
		make_veth(on_node, pod, namespace);
		configure_pod(in_pod, network + 2 + pod, prefix, network | 1);
		close(in_pod);
		close(namespace);
	}
	close(on_node);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
	int nodes = count > 3 ? atoi(arguments[2]) : 0, pods = count > 3 ? atoi(arguments[3]) : 0;
	double started, seconds;

	if (nodes < 1 || nodes > 254 || pods < 1 || pods > 1000) {
		fprintf(stderr, "usage: floor DIR NODES PODS [COMMAND...] (1-254 nodes, 1-1000 pods on each)\n");
		return 2;
	}
	started = now();
	for (int node = 1; node <= nodes; node++)
		make_node(arguments[1], node, pods);
	seconds = now() - started;
	printf("{\"nodes\": %d, \"pods_per_node\": %d, \"seconds\": %.6f, \"ms_per_pod\": %.4f}\n", nodes, pods, seconds,
	       seconds * 1000 / (nodes * pods));
	fflush(stdout);
	if (count > 4) {
		execvp(arguments[4], arguments + 4);
		fail(arguments[4]);
	}
	return 0;
}
