// SPDX-License-Identifier: GPL-2.0-only
/* Put TCP sockets of a cgroup into a SOCKHASH at the callbacks wanted. */
#include "sock_ops.h"

static long (*bpf_sock_hash_update)(struct bpf_sock_ops *, void *map, void *key, __u64 flags) =
	(void *)BPF_FUNC_sock_hash_update;

struct map_definition SEC("maps") enrolled = {
	.type = BPF_MAP_TYPE_SOCKHASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = CALLBACKS,
};

SEC("sock_ops")
int enrol(struct bpf_sock_ops *ops)
{
	struct orders *orders = get_orders();
	__u32 key;

	if (orders && begin(ops, orders, &key))
		report(orders, ops->op, bpf_sock_hash_update(ops, &enrolled, &key, orders->flags));
	return 1;
}
