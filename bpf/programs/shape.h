/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs share that change a message or packet: what to do in which run, and what a run saw. */
#ifndef SHAPE_H
#define SHAPE_H

#include "common.h"

#define TURNS 4
#define OPERATIONS 24
#define RUNS 8
#define UNCALLED 0xffffffff

/* One helper to call; conformance/groups/shape/guest/program.py has the numbers of helpers. */
struct operation {
	__u32 helper;
	__u32 start;
	__u32 length;
	__s32 answer;	/* written by the program */
};

struct turn {
	__u32 verdict;
	__u32 redirect;	/* whether to redirect to slot 0 of the targets, instead of the verdict */
	__u32 flags;	/* of the redirect */
	__u32 operations; /* how many of them to do */
	__u32 apply;	/* bytes; UNCALLED: leave the helper alone */
	__u32 cork;	/* the same */
};

struct seen {
	__u32 size;	/* of the message */
	__u32 visible;	/* bytes from data to data_end */
	__u32 first;	/* the first and the last of these */
	__u32 last;
};

/* Written by user space above the line, by the program below it, save for answers. */
struct shape {
	struct turn turns[TURNS]; /* one a run; the last serves all further runs, too */
	struct operation operations[OPERATIONS];
	/* ---- */
	__u32 runs;
	__u32 unused;
	struct seen before[RUNS];
	struct seen after[RUNS];
};

struct map_definition SEC("maps") shape = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(struct shape),
	.max_entries = 1,
	.flags = BPF_F_MMAPABLE,
};

struct map_definition SEC("maps") targets = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 4,
};

INLINE struct shape *get_shape(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&shape, &only);
}

INLINE struct turn *get_turn(struct shape *shape, __u32 run)
{
	return &shape->turns[run < TURNS ? run : TURNS - 1];
}

/* Note what a program can see of its data. */
INLINE void note(struct seen *seen, __u32 size, const __u8 *data, const __u8 *end)
{
	__u64 visible = end - data;
	const __u8 *last;

	seen->size = size;
	seen->visible = visible;
	if (data + 1 > end)
		return;
	seen->first = *data;
	/* Pages of a message are 32 KiB at most; the verifier allows no larger offsets. */
	last = data + ((visible - 1) & 0x7fff);
	if (last + 1 <= end)
		seen->last = *last;
}

#endif
