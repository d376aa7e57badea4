// SPDX-License-Identifier: GPL-2.0-only
/* Redirect what a socket receives to the egress of the only socket in a SOCKMAP. */
#include "redirect.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 1,
};

SEC("sk_skb")
int fence(struct __sk_buff *skb)
{
	return bpf_sk_redirect_map(skb, &targets, 0, 0);
}
