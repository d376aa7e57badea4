// SPDX-License-Identifier: GPL-2.0-only
/* Return the verdict that user space wants for a packet that a socket receives, with a SOCKHASH of targets. */
#include "answer.h"

static long (*bpf_sk_redirect_hash)(struct __sk_buff *, void *map, const void *key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_hash;

TARGETS(BPF_MAP_TYPE_SOCKHASH);

INLINE int redirect(void *skb, __u32 key, __u64 flags)
{
	return bpf_sk_redirect_hash(skb, &targets, &key, flags);
}

SEC("sk_skb")
int answer_skb(struct __sk_buff *skb)
{
	return decide(skb, skb->len, redirect);
}
