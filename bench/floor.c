/*
 * The floor: what the kernel itself takes to make the pods of a lab, with nothing in its way.
 *
 *     floor NODES PODS_PER_NODE
 *
 * Makes, in this process's mount namespace (give it one of its own, with /run/netns empty), one network namespace a
 * node with a bridge and its gateway address, and one a pod with lo, eth0, an address and a default route. One thread,
 * one netlink socket a namespace, several messages a send. Prints the seconds it took.
 *
 * Three things make it as fast as it gets, and k8snetlab does the same: the peer of a veth pair is created inside the
 * pod's namespace (moving it there waits for RCU grace periods, 15 ms each), with one queue (more wait for RCU too), and
 * without IPv6 link-local addresses (else each pod announces itself on its bridge).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOOPBACK = 1, ETH0 = 2, BRIDGE = 2, FIRST_VETH = 100, BATCH_BYTES = 4096 };

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Messages to be sent at once. `last` is where the newest begins; its length grows with each attribute. */
struct batch {
	char bytes[BATCH_BYTES];
	size_t length, last;
};

static void put(struct batch *b, const void *data, size_t length)
{
	if (b->length + NLMSG_ALIGN(length) > sizeof b->bytes) {
		errno = ENOBUFS;
		die("batch");
	}
	memset(b->bytes + b->length, 0, NLMSG_ALIGN(length));
	if (length)
		memcpy(b->bytes + b->length, data, length);
	b->length += NLMSG_ALIGN(length);
	((struct nlmsghdr *)(b->bytes + b->last))->nlmsg_len = b->length - b->last;
}

static void message(struct batch *b, int type, int flags, const void *body, size_t length)
{
	struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};

	b->last = b->length;
	put(b, &header, sizeof header);
	put(b, body, length);
}

static size_t attribute(struct batch *b, int type, const void *data, size_t length)
{
	struct rtattr header = {.rta_type = type, .rta_len = RTA_LENGTH(length)};
	size_t start = b->length;

	put(b, &header, sizeof header);
	put(b, data, length);
	return start;
}

static size_t nest(struct batch *b, int type) { return attribute(b, type, NULL, 0); }

static void end(struct batch *b, size_t nested) { ((struct rtattr *)(b->bytes + nested))->rta_len = b->length - nested; }

static void text(struct batch *b, int type, const char *value) { attribute(b, type, value, strlen(value) + 1); }

static void number(struct batch *b, int type, uint32_t value) { attribute(b, type, &value, sizeof value); }

/* The kernel works while send() runs, so all errors are waiting when it returns. */
static void flush(int socket, struct batch *b, const char *what)
{
	char answer[8192];
	ssize_t size;

	if (send(socket, b->bytes, b->length, 0) < 0)
		die(what);
	while ((size = recv(socket, answer, sizeof answer, MSG_DONTWAIT)) > 0) {
		struct nlmsghdr *header = (struct nlmsghdr *)answer;

		for (; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
			if (header->nlmsg_type != NLMSG_ERROR)
				continue;
			errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
			if (errno)
				die(what);
		}
	}
	b->length = b->last = 0;
}

static void link_up(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	message(b, RTM_NEWLINK, 0, &link, sizeof link);
}

/* Must come before the link is up, and cannot be said when it is created. */
static void no_link_local(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index};
	uint8_t mode = IN6_ADDR_GEN_MODE_NONE;

	message(b, RTM_NEWLINK, 0, &link, sizeof link);
	size_t spec = nest(b, IFLA_AF_SPEC | NLA_F_NESTED), inet6 = nest(b, AF_INET6 | NLA_F_NESTED);
	attribute(b, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
	end(b, inet6);
	end(b, spec);
}

static void address(struct batch *b, int index, uint32_t value)
{
	struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = 24, .ifa_index = index};

	message(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	number(b, IFA_LOCAL, htonl(value));
	number(b, IFA_ADDRESS, htonl(value));
}

static void default_route(struct batch *b, int index, uint32_t gateway)
{
	struct rtmsg body = {
		.rtm_family = AF_INET,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};

	message(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	number(b, RTA_GATEWAY, htonl(gateway));
	number(b, RTA_OIF, index);
}

static void one_queue(struct batch *b)
{
	number(b, IFLA_NUM_TX_QUEUES, 1);
	number(b, IFLA_NUM_RX_QUEUES, 1);
}

static void bridge(struct batch *b)
{
	struct ifinfomsg link = {.ifi_index = BRIDGE};

	message(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	text(b, IFLA_IFNAME, "cni0");
	size_t info = nest(b, IFLA_LINKINFO);
	text(b, IFLA_INFO_KIND, "bridge");
	end(b, info);
}

/* The node's end; the pod's end appears in the pod's namespace. Both indexes are chosen, so nothing is looked up. */
static void veth(struct batch *b, int pod, int namespace)
{
	struct ifinfomsg link = {.ifi_index = FIRST_VETH + pod}, peer = {.ifi_index = ETH0};
	char name[IFNAMSIZ];

	snprintf(name, sizeof name, "veth%d", pod);
	message(b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	text(b, IFLA_IFNAME, name);
	one_queue(b);
	size_t info = nest(b, IFLA_LINKINFO);
	text(b, IFLA_INFO_KIND, "veth");
	size_t data = nest(b, IFLA_INFO_DATA), other = nest(b, VETH_INFO_PEER);
	put(b, &peer, sizeof peer);
	text(b, IFLA_IFNAME, "eth0");
	number(b, IFLA_NET_NS_FD, namespace);
	one_queue(b);
	end(b, other);
	end(b, data);
	end(b, info);
}

static void bridge_port_up(struct batch *b, int index)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	no_link_local(b, index);
	message(b, RTM_NEWLINK, 0, &link, sizeof link);
	number(b, IFLA_MASTER, BRIDGE);
}

/* Makes a namespace, names it as `ip netns add` would, and stays in it. */
static int enter_new_namespace(const char *name)
{
	char path[128];

	snprintf(path, sizeof path, "/run/netns/%s", name);
	int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (file < 0)
		die(path);
	close(file);
	if (unshare(CLONE_NEWNET) < 0)
		die("unshare");
	if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		die("mount");
	int namespace = open(path, O_RDONLY | O_CLOEXEC);
	if (namespace < 0)
		die(path);
	return namespace;
}

/* A socket belongs for ever to the namespace it was made in. */
static int open_netlink(void)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (netlink < 0)
		die("netlink");
	return netlink;
}

static void forward(void)
{
	int file = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, "1", 1) != 1)
		die("ip_forward");
	close(file);
}

static int make_node(int node, uint32_t gateway)
{
	static struct batch b;
	char name[64];

	snprintf(name, sizeof name, "node%d", node);
	close(enter_new_namespace(name));
	int netlink = open_netlink();
	link_up(&b, LOOPBACK);
	bridge(&b);
	no_link_local(&b, BRIDGE);
	link_up(&b, BRIDGE);
	address(&b, BRIDGE, gateway);
	flush(netlink, &b, name);
	forward();
	return netlink;
}

static void make_pod(int node, int pod, int node_netlink, uint32_t gateway)
{
	static struct batch b;
	char name[64];

	snprintf(name, sizeof name, "node%d-pod%d", node, pod);
	int namespace = enter_new_namespace(name), netlink = open_netlink();
	veth(&b, pod, namespace);
	bridge_port_up(&b, FIRST_VETH + pod);
	flush(node_netlink, &b, name);
	no_link_local(&b, ETH0);
	link_up(&b, ETH0);
	address(&b, ETH0, gateway + 1 + pod);
	default_route(&b, ETH0, gateway);
	link_up(&b, LOOPBACK);
	flush(netlink, &b, name);
	close(netlink);
	close(namespace);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int count, char **arguments)
{
	int nodes = count == 3 ? atoi(arguments[1]) : 0, pods = count == 3 ? atoi(arguments[2]) : 0;

	if (nodes < 1 || nodes > 255 || pods < 1 || pods > 253) {
		fprintf(stderr, "usage: floor NODES PODS_PER_NODE (at most 255 and 253)\n");
		return 2;
	}
	double start = now();
	for (int node = 0; node < nodes; node++) {
		uint32_t gateway = 0x0af40001 + (node << 8); /* 10.244.NODE.1 */
		int netlink = make_node(node, gateway);

		for (int pod = 0; pod < pods; pod++)
			make_pod(node, pod, netlink, gateway);
		close(netlink);
	}
	printf("%.4f\n", now() - start);
	return 0;
}
