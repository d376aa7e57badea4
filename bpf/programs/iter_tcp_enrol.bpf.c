// SPDX-License-Identifier: GPL-2.0-only
/* Put the TCP sockets, or loaded for it the UDP sockets, with a certain local port into a SOCKMAP or SOCKHASH. */
#include "iter.h"

/* The beginning of struct sock_common, which is the beginning of every socket. */
struct socket {
	__u32 remote_address;
	__u32 local_address;
	__u32 hash;
	__u16 remote_port; /* in network byte order */
	__u16 local_port;
	__u16 family;
};

struct context {
	struct meta *meta;
	struct socket *socket;
};

SEC("iter_tcp")
int enrol(struct context *context)
{
	struct orders *orders = get_orders();
	struct socket *socket = context->socket;
	__u32 key;

	if (!orders || !socket || socket->local_port != orders->port || socket->family != orders->family ||
	    host_order(socket->remote_port) != orders->remote)
		return 0;
	key = orders->key;
	report(orders, 0, bpf_map_update_elem(&enrolled, &key, socket, orders->flags));
	return 0;
}
