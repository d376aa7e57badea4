// SPDX-License-Identifier: GPL-2.0-only
/* Copy the sockets of a SOCKMAP or SOCKHASH into another, under the same keys. */
#include "iter.h"

struct context {
	struct meta *meta;
	void *map;
	__u32 *key;
	void *socket;
};

SEC("iter_sockmap")
int copy(struct context *context)
{
	struct orders *orders = get_orders();
	void *socket = context->socket;
	__u32 *found = context->key;
	__u32 key;

	if (!orders || !found || !socket || !room(context->meta, orders))
		return 0;
	key = *found;
	report(orders, 0, bpf_map_update_elem(&enrolled, &key, socket, orders->flags));
	return 0;
}
