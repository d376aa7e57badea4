// SPDX-License-Identifier: GPL-2.0-only
/* Redirect what a socket receives to a socket in a SOCKHASH. */
#include "redirect.h"

static long (*bpf_sk_redirect_hash)(struct __sk_buff *, void *map, const void *key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_hash;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKHASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
};

SEC("sk_skb")
int redirect(struct __sk_buff *skb)
{
	struct state *state = get_state();
	__u32 size = skb->len;
	__u32 key;
	int verdict = SK_PASS;

	if (!state)
		return SK_DROP;
	key = state->key;
	if (affordable(state, size))
		verdict = bpf_sk_redirect_hash(skb, &targets, &key, state->flags);
	return account(state, verdict, size);
}
