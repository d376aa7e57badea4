// SPDX-License-Identifier: GPL-2.0-only
/* A planted fault: a message of one byte is delivered twice. */
#include "redirect.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;
static long (*bpf_skb_change_tail)(struct __sk_buff *, __u32 size, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 size) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*bpf_skb_store_bytes)(struct __sk_buff *, __u32 offset, const void *from, __u32 size, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;

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
	__u32 size = skb->len;
	__u8 byte;

	if (!state)
		return SK_DROP;
	if (size == 1 && !bpf_skb_load_bytes(skb, 0, &byte, 1) && !bpf_skb_change_tail(skb, 2, 0))
		bpf_skb_store_bytes(skb, 1, &byte, 1, 0);
	return account(state, bpf_sk_redirect_map(skb, &targets, state->key, state->flags), size);
}
