/* SPDX-License-Identifier: GPL-2.0-only */
/* What the iterators share. Their contexts are part of no header, but what is read of them never changed. */
#ifndef ITER_H
#define ITER_H

#include "enrol.h"

static long (*bpf_seq_write)(void *seq, const void *data, __u32 size) = (void *)BPF_FUNC_seq_write;

#define PADDING (20 << 10)

struct meta {
	void *seq;
};

/* A port in network byte order. */
INLINE __u16 host_order(__u16 port)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16(port) : port;
}

/* Whatever the type of the map it is loaded with. */
struct map_definition SEC("maps") enrolled = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 16,
};

struct map_definition SEC("maps") padding = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = PADDING,
	.max_entries = 1,
};

/*
 * Write so much that a read returns after one socket, if that is wanted: the buffer has 32 KiB. Whether the socket
 * fits in; one that does not is shown again with the next read.
 */
INLINE int room(struct meta *meta, struct orders *orders)
{
	__u32 only = 0;
	void *data;

	if (!orders->wanted)
		return 1;
	data = bpf_map_lookup_elem(&padding, &only);
	return data && bpf_seq_write(meta->seq, data, PADDING) == 0;
}

#endif
