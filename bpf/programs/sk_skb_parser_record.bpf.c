// SPDX-License-Identifier: GPL-2.0-only
/* Tell the stream parser that the stream consists of records of ten bytes, with their length in the first four. */
#include "redirect.h"

#define HEADER 4
#define RECORD 10

SEC("sk_skb")
int parse(struct __sk_buff *skb)
{
	return skb->len < HEADER ? 0 : RECORD;
}
