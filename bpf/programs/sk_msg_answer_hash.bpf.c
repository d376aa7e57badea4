// SPDX-License-Identifier: GPL-2.0-only
/* Answer as user space says to what is sent on a socket, with a SOCKHASH of targets. */
#include "answer.h"

static long (*bpf_msg_redirect_hash)(struct sk_msg_md *, void *map, const void *key, __u64 flags) =
	(void *)BPF_FUNC_msg_redirect_hash;

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKHASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
};

SEC("sk_msg")
int decide(struct sk_msg_md *msg)
{
	struct answer *answer = get_answer();
	int returned;
	__u32 key;

	if (!answer)
		return SK_DROP;
	key = take_turn(answer, msg->size);
	if (answer->what == ANSWER_PASS)
		return SK_PASS;
	if (answer->what == ANSWER_DROP)
		return SK_DROP;
	returned = bpf_msg_redirect_hash(msg, &targets, &key, answer->flags);
	return answer->what == ANSWER_IGNORE ? SK_PASS : returned;
}
