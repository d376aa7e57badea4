// SPDX-License-Identifier: GPL-2.0-only
/* Change what is sent on a socket, and say how long the verdict holds. */
#include "shape.h"

static long (*bpf_msg_redirect_map)(struct sk_msg_md *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_msg_redirect_map;
static long (*bpf_msg_apply_bytes)(struct sk_msg_md *, __u32 bytes) = (void *)BPF_FUNC_msg_apply_bytes;
static long (*bpf_msg_cork_bytes)(struct sk_msg_md *, __u32 bytes) = (void *)BPF_FUNC_msg_cork_bytes;
static long (*bpf_msg_pull_data)(struct sk_msg_md *, __u32 start, __u32 end, __u64 flags) =
	(void *)BPF_FUNC_msg_pull_data;
static long (*bpf_msg_push_data)(struct sk_msg_md *, __u32 start, __u32 length, __u64 flags) =
	(void *)BPF_FUNC_msg_push_data;
static long (*bpf_msg_pop_data)(struct sk_msg_md *, __u32 start, __u32 length, __u64 flags) =
	(void *)BPF_FUNC_msg_pop_data;

/* Write a byte at an offset from data; return 1 if that byte is not visible. */
INLINE long write(struct sk_msg_md *msg, __u32 at, __u8 byte)
{
	__u8 *data = msg->data, *end = msg->data_end;

	data += at & 0x7fff;
	if (data + 1 > end)
		return 1;
	*data = byte;
	return 0;
}

INLINE long call(void *msg, struct operation *operation)
{
	__u32 start = operation->start, length = operation->length;

	switch (operation->helper) {
	case 1:
		return bpf_msg_push_data(msg, start, length, 0);
	case 2:
		return bpf_msg_pop_data(msg, start, length, 0);
	case 3:
		return bpf_msg_pull_data(msg, start, length, 0);
	case 4:
		return write(msg, start, length);
	case 5:
		return bpf_msg_push_data(msg, start, length, 1);
	case 6:
		return bpf_msg_pop_data(msg, start, length, 1);
	case 7:
		return bpf_msg_pull_data(msg, start, length, 1);
	}
	return UNKNOWN;
}

INLINE void look_at(void *context, struct seen *seen)
{
	struct sk_msg_md *msg = context;

	note(seen, msg->size, msg->data, msg->data_end);
}

SEC("sk_msg")
int reshape(struct sk_msg_md *msg)
{
	struct turn *turn = take_turn(msg, call, look_at);

	if (!turn)
		return SK_DROP;
	if (turn->apply != UNCALLED)
		bpf_msg_apply_bytes(msg, turn->apply);
	if (turn->cork != UNCALLED)
		bpf_msg_cork_bytes(msg, turn->cork);
	if (turn->redirect)
		return bpf_msg_redirect_map(msg, &targets, 0, turn->flags);
	return turn->verdict;
}
