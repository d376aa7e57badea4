// SPDX-License-Identifier: GPL-2.0-only
/* Put the socket with a certain cookie into a SOCKMAP or SOCKHASH; for kernels from 5.12 on. */
#include "iter.h"

static __u64 (*bpf_get_socket_cookie)(void *socket) = (void *)BPF_FUNC_get_socket_cookie;

struct context {
	struct meta *meta;
	void *socket;
};

SEC("iter_unix")
int enrol(struct context *context)
{
	struct orders *orders = get_orders();
	void *socket = context->socket;
	__u32 key;

	if (!orders || !socket || bpf_get_socket_cookie(socket) != orders->cookie)
		return 0;
	key = orders->key;
	report(orders, 0, bpf_map_update_elem(&enrolled, &key, socket, orders->flags));
	return 0;
}
