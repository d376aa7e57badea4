// SPDX-License-Identifier: GPL-2.0-only
/* Answer as user space says to what a socket receives, with a SOCKMAP of targets. */
#include "answer.h"

static long (*bpf_sk_redirect_map)(struct __sk_buff *, void *map, __u32 key, __u64 flags) =
	(void *)BPF_FUNC_sk_redirect_map;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
};

SEC("sk_skb")
int decide(struct __sk_buff *skb)
{
	struct answer *answer = get_answer();
	int returned;
	__u32 key;

	if (!answer)
		return SK_DROP;
	key = take_turn(answer, skb->len);
	if (answer->what == ANSWER_PASS)
		return SK_PASS;
	if (answer->what == ANSWER_DROP)
		return SK_DROP;
	returned = bpf_sk_redirect_map(skb, &targets, key, answer->flags);
	return answer->what == ANSWER_IGNORE ? SK_PASS : returned;
}
