// SPDX-License-Identifier: GPL-2.0-only
/* The program of this name on a kernel that loses messages. */
#include "lossy.h"

#define bpf_sk_redirect_map(...) lossy(bpf_sk_redirect_map(__VA_ARGS__))
#include "../programs/sk_skb_fence.bpf.c"
