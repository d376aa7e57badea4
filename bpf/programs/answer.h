/* SPDX-License-Identifier: GPL-2.0-only */
/* The programs sk_{msg,skb}_answer_{map,hash}: user space decides what each run returns. */
#ifndef ANSWER_H
#define ANSWER_H

#include "common.h"

enum answers {
	ANSWER_DROP,
	ANSWER_PASS,
	ANSWER_HELPER,	/* what the redirect helper returns */
	ANSWER_IGNORE,	/* SK_PASS, whatever the redirect helper returns */
};

/* Written by user space above the line, by the program below it; groups/stream/guest/setup.py reads it. */
struct answer {
	__u32 what;	/* one of `answers` */
	__u32 key;	/* the slot of the target */
	__u32 flags;	/* BPF_F_INGRESS or 0 */
	__u32 turns;	/* how many slots, from `key` on, take turns as the target */
	/* ---- */
	__u64 runs;
	__u64 bytes;
};

struct map_definition SEC("maps") answer = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(struct answer),
	.max_entries = 1,
	.flags = BPF_F_MMAPABLE,
};

/* The map of targets, of the type that the redirect helper of the program takes. */
#define TARGETS(map_type)				\
	struct map_definition SEC("maps") targets = {	\
		.type = map_type,			\
		.key_size = sizeof(__u32),		\
		.value_size = sizeof(__u32),		\
		.max_entries = 2,			\
	}

/* Call the redirect helper of the program, with a key of its targets. */
typedef int redirect_to(void *context, __u32 key, __u64 flags);

INLINE struct answer *get_answer(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&answer, &only);
}

/* Count a run, and return the slot whose turn it is. */
INLINE __u32 take_turn(struct answer *answer, __u32 bytes)
{
	__u64 run = answer->runs;

	__sync_fetch_and_add(&answer->runs, 1);
	__sync_fetch_and_add(&answer->bytes, bytes);
	return answer->key + (answer->turns ? run % answer->turns : 0);
}

/* Return the verdict that user space wants for a message or packet of so many bytes. */
INLINE int decide(void *context, __u32 bytes, redirect_to *redirect)
{
	struct answer *answer = get_answer();
	int returned;
	__u32 key;

	if (!answer)
		return SK_DROP;
	key = take_turn(answer, bytes);
	if (answer->what == ANSWER_PASS)
		return SK_PASS;
	if (answer->what == ANSWER_DROP)
		return SK_DROP;
	returned = redirect(context, key, answer->flags);
	return answer->what == ANSWER_IGNORE ? SK_PASS : returned;
}

#endif
