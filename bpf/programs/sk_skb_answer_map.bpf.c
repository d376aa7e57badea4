// SPDX-License-Identifier: GPL-2.0-only
/* Return the verdict that user space wants for a packet that a socket receives, with a SOCKMAP of targets. */
#include "answer.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;

TARGETS(BPF_MAP_TYPE_SOCKMAP);

INLINE int redirect(void *skb, __u32 key, __u64 flags)
{
	return bpf_sk_redirect_map(skb, &targets, key, flags);
}

SEC("sk_skb")
int answer_skb(struct __sk_buff *skb)
{
	return decide(skb, skb->len, redirect);
}
