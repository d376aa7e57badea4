/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs share that use a map of sockets as a steering table. */
#ifndef STEER_H
#define STEER_H

#include "enrol.h"

/* Whatever the type of the map it is loaded with. */
struct map_definition SEC("maps") table = {
	.type = BPF_MAP_TYPE_SOCKMAP,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 4,
};

#endif
