/* SPDX-License-Identifier: GPL-2.0-only */
/* The programs sk_{msg,skb}_shape: orders of user space for each run, and notes of each run. */
#ifndef SHAPE_H
#define SHAPE_H

#include "common.h"

#define TURNS 4
#define OPERATIONS 24
#define RUNS 8
#define UNCALLED 0xffffffff

/* One call of a helper; conformance/groups/shape/guest/program.py has the numbers of helpers. */
struct operation {
	__u32 helper;
	__u32 start;
	__u32 length;
	__s32 answer;	/* written by the program */
};

struct turn {
	__u32 verdict;
	__u32 redirect;	/* return a redirect to slot 0 of the targets, not the verdict */
	__u32 flags;	/* of the redirect */
	__u32 operations; /* how many to carry out */
	__u32 apply;	/* bytes; UNCALLED: do not call the helper */
	__u32 cork;	/* the same */
};

struct seen {
	__u32 size;	/* of the message */
	__u32 visible;	/* bytes from data to data_end */
	__u32 first;	/* the first and the last of these bytes */
	__u32 last;
};

/* User space writes above the line, and the program below it; the program also writes the answers of operations. */
struct shape {
	struct turn turns[TURNS]; /* one for each run; all further runs repeat the last */
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

/* Note which bytes lie between data and data_end. */
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

/* Carry out one operation; return what the helper returned, 1 if a byte to write is not visible, or UNKNOWN. */
typedef long operate(void *context, struct operation *operation);
/* Call note() with the data of the context, which any helper may have moved. */
typedef void look(void *context, struct seen *seen);

#define UNKNOWN 2

/* Carry out the operations of the next turn, with notes before and after; return the turn, or NULL without orders. */
INLINE struct turn *take_turn(void *context, operate *operate, look *look)
{
	struct shape *shape = get_shape();
	struct turn *turn;
	__u32 run, i;

	if (!shape)
		return 0;
	run = shape->runs++;
	turn = get_turn(shape, run);
	if (run < RUNS)
		look(context, &shape->before[run]);
	for (i = 0; i < OPERATIONS; i++) {
		if (i >= turn->operations)
			break;
		shape->operations[i].answer = operate(context, &shape->operations[i]);
	}
	if (run < RUNS)
		look(context, &shape->after[run]);
	return turn;
}

#endif
