// SPDX-License-Identifier: GPL-2.0-only
/* Change what a socket receives. */
#include "shape.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;
static long (*bpf_skb_change_tail)(struct __sk_buff *, __u32 length, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*bpf_skb_adjust_room)(struct __sk_buff *, __s32 difference, __u32 mode, __u64 flags) =
	(void *)BPF_FUNC_skb_adjust_room;
static long (*bpf_skb_pull_data)(struct __sk_buff *, __u32 length) = (void *)BPF_FUNC_skb_pull_data;
static long (*bpf_skb_store_bytes)(struct __sk_buff *, __u32 offset, const void *from, __u32 length, __u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;

INLINE long call(void *skb, struct operation *operation)
{
	__u32 start = operation->start;
	__u8 byte = operation->length;

	switch (operation->helper) {
	case 1:
		return bpf_skb_change_tail(skb, start, 0);
	case 2:
		return bpf_skb_adjust_room(skb, start, 0, 0);
	case 3:
		return bpf_skb_pull_data(skb, start);
	case 4:
		return bpf_skb_store_bytes(skb, start, &byte, 1, 0);
	}
	return UNKNOWN;
}

INLINE void look_at(void *context, struct seen *seen)
{
	struct __sk_buff *skb = context;

	note(seen, skb->len, (void *)(long)skb->data, (void *)(long)skb->data_end);
}

SEC("sk_skb")
int reshape(struct __sk_buff *skb)
{
	struct turn *turn = take_turn(skb, call, look_at);

	if (!turn)
		return SK_DROP;
	if (turn->redirect)
		return bpf_sk_redirect_map(skb, &targets, 0, turn->flags);
	return turn->verdict;
}
