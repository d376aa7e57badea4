/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What all programs share: how they declare maps, the licence.
 *
 * UAPI only: no kernel headers, no BTF, no CO-RE, so that one object loads on every kernel from 5.10 on.
 */
#ifndef COMMON_H
#define COMMON_H

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

/* Read from the object by bpf/build.py; the name of the variable is the name of the map. */
struct map_definition {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 flags;
};

char _license[] SEC("license") = "GPL";

#endif
