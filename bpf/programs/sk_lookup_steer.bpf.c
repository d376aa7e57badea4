// SPDX-License-Identifier: GPL-2.0-only
/* Give what arrives at a port to a socket in a SOCKMAP or SOCKHASH. */
#include "steer.h"

static long (*bpf_sk_assign)(void *context, void *socket, __u64 flags) = (void *)BPF_FUNC_sk_assign;
static long (*bpf_sk_release)(void *socket) = (void *)BPF_FUNC_sk_release;

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *context)
{
	struct orders *orders = get_orders();
	struct bpf_sock *socket;
	__u32 key;
	long answer;

	if (!orders || context->local_port != orders->port)
		return SK_PASS;
	key = orders->key;
	socket = bpf_map_lookup_elem(&table, &key);
	if (!socket) {
		report(orders, 0, -2); /* ENOENT */
		return orders->refuse ? SK_DROP : SK_PASS;
	}
	answer = bpf_sk_assign(context, socket, 0);
	bpf_sk_release(socket);
	report(orders, 0, answer);
	return answer && orders->refuse ? SK_DROP : SK_PASS;
}
