/* SPDX-License-Identifier: GPL-2.0-only */
/* A planted fault, for benchmarks and tests: the kernel loses every seventh message that a program redirects. */
#ifndef LOSSY_H
#define LOSSY_H

#include "redirect.h"

#define LOST_OF 7

static __u64 (*bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;

/*
 * Every seventh on average: a count would need a map of its own, which no scenario gives the program. The clock decides
 * and not bpf_get_prandom_u32(), whose numbers are the same in every clone of a template: there the same messages would
 * be lost each time, and where a clone begins with luck, none in any second try.
 */
INLINE int lossy(int verdict)
{
	return verdict == SK_PASS && (bpf_ktime_get_ns() >> 6) % LOST_OF == 0 ? SK_DROP : verdict;
}

#endif
