/* SPDX-License-Identifier: GPL-2.0-only */
/* What the redirect programs share: the state user space maps, the accounting. */
#ifndef REDIRECT_H
#define REDIRECT_H

#include "common.h"

struct tally {
	__u64 runs;
	__u64 bytes;
};

/* Written by user space above the line, by the program below it; conformance/guestlib/fixture.py reads it. */
struct state {
	__u32 key;	/* the slot of the target */
	__u32 flags;	/* BPF_F_INGRESS or 0 */
	__s64 budget;	/* bytes that may still be redirected; whatever exceeds it gets SK_PASS, which ends a loop */
	/* ---- */
	struct tally pass;
	struct tally drop;
};

struct map_definition SEC("maps") state = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(struct state),
	.max_entries = 1,
	.flags = BPF_F_MMAPABLE,
};

INLINE struct state *get_state(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&state, &only);
}

/* Take `bytes` from the budget; whether there were so many. */
INLINE int affordable(struct state *state, __u32 bytes)
{
	if (state->budget < bytes)
		return 0;
	__sync_fetch_and_add(&state->budget, -(__s64)bytes);
	return 1;
}

INLINE int account(struct state *state, int verdict, __u32 bytes)
{
	struct tally *tally = verdict == SK_PASS ? &state->pass : &state->drop;

	__sync_fetch_and_add(&tally->runs, 1);
	__sync_fetch_and_add(&tally->bytes, bytes);
	return verdict;
}

#endif
