/* SPDX-License-Identifier: GPL-2.0-only */
/* A planted fault, for benchmarks and tests: the kernel loses every seventh message that a program redirects. */
#ifndef LOSSY_H
#define LOSSY_H

#include "redirect.h"

#define LOST_OF 7

static __u32 (*bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;

/* Every seventh on average: a count would need a map of its own, which no scenario gives the program. */
INLINE int lossy(int verdict)
{
	return verdict == SK_PASS && bpf_get_prandom_u32() % LOST_OF == 0 ? SK_DROP : verdict;
}

#endif
