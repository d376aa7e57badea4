// SPDX-License-Identifier: GPL-2.0-only
/* The program of this name on a kernel that loses messages: what is lost counts as redirected. */
#include "lossy.h"

#define account(state, verdict, bytes) lossy(account(state, verdict, bytes))
#include "../programs/sk_skb_redirect_map.bpf.c"
