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

INLINE long do_one(struct __sk_buff *skb, struct operation *operation)
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
	return 2;
}

SEC("sk_skb")
int reshape(struct __sk_buff *skb)
{
	struct shape *shape = get_shape();
	struct turn *turn;
	__u32 run, i;

	if (!shape)
		return SK_DROP;
	run = shape->runs++;
	turn = get_turn(shape, run);
	if (run < RUNS)
		note(&shape->before[run], skb->len, (void *)(long)skb->data, (void *)(long)skb->data_end);
	for (i = 0; i < OPERATIONS; i++) {
		if (i >= turn->operations)
			break;
		shape->operations[i].answer = do_one(skb, &shape->operations[i]);
	}
	if (run < RUNS)
		note(&shape->after[run], skb->len, (void *)(long)skb->data, (void *)(long)skb->data_end);
	if (turn->redirect)
		return bpf_sk_redirect_map(skb, &targets, 0, turn->flags);
	return turn->verdict;
}
