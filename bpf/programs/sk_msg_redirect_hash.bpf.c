// SPDX-License-Identifier: GPL-2.0-only
/* Redirect what is sent on a socket to a socket in a SOCKHASH. */
#include "redirect.h"

static long (*bpf_msg_redirect_hash)(struct sk_msg_md *, void *map, const void *key, __u64 flags) =
	(void *)BPF_FUNC_msg_redirect_hash;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKHASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
};

SEC("sk_msg")
int redirect(struct sk_msg_md *msg)
{
	struct state *state = get_state();
	__u32 size = msg->size;
	__u32 key;
	int verdict = SK_PASS;

	if (!state)
		return SK_DROP;
	key = state->key;
	if (affordable(state, size))
		verdict = bpf_msg_redirect_hash(msg, &targets, &key, state->flags);
	return account(state, verdict, size);
}
