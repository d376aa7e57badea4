// SPDX-License-Identifier: GPL-2.0-only
/* Return the verdict that user space wants for a message that a socket sends, with a SOCKMAP of targets. */
#include "answer.h"

static long (*bpf_msg_redirect_map)(struct sk_msg_md *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_msg_redirect_map;

TARGETS(BPF_MAP_TYPE_SOCKMAP);

INLINE int redirect(void *msg, __u32 key, __u64 flags)
{
	return bpf_msg_redirect_map(msg, &targets, key, flags);
}

SEC("sk_msg")
int answer_msg(struct sk_msg_md *msg)
{
	return decide(msg, msg->size, redirect);
}
