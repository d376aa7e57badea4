// SPDX-License-Identifier: GPL-2.0-only
/* A planted fault: redirects to the other of two slots. */
#include "redirect.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
};

SEC("sk_skb")
int redirect(struct __sk_buff *skb)
{
	struct state *state = get_state();

	if (!state)
		return SK_DROP;
	return account(state, bpf_sk_redirect_map(skb, &targets, !state->key, state->flags), skb->len);
}
