/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs share that put sockets into a map, or take them out to steer by: orders and a report. */
#ifndef ENROL_H
#define ENROL_H

#include "common.h"

static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;

#define CALLBACKS 32

/* conformance/guestlib/fixture.py writes what is above the line and reads what is below it. */
struct orders {
	__u64 cookie;	/* the socket meant, where a program knows cookies */
	__u32 port;	/* the sockets meant: by local port, for sock_ops local or remote */
	__u32 remote;	/* and by remote port, only where an iterator finds them */
	__u32 family;	/* and so by family */
	__u32 key;
	__u32 flags;	/* of the update */
	__u32 spread;	/* sock_ops: the key is the callback's number */
	__u32 wanted;	/* sock_ops: flags of the callbacks wanted; an iterator: bytes to write for each socket */
	__u32 timeout;	/* sock_ops: the first retransmission timeout in jiffies */
	__u32 callbacks; /* sock_ops: the callbacks to enrol at, one bit each */
	__u32 refuse;	/* steering: whether to drop where the map has no socket */
	/* ---- */
	__u32 calls[CALLBACKS];	/* by callback; all but sock_ops count in the first */
	__s32 answers[CALLBACKS];
};

struct map_definition SEC("maps") orders = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(struct orders),
	.max_entries = 1,
	.flags = BPF_F_MMAPABLE,
};

INLINE struct orders *get_orders(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&orders, &only);
}

INLINE void report(struct orders *orders, __u32 callback, long answer)
{
	callback &= CALLBACKS - 1;
	orders->calls[callback]++;
	orders->answers[callback] = answer;
}

#endif
