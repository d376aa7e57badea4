// SPDX-License-Identifier: GPL-2.0-only
/* Tell the stream parser that every skb is one whole message. */
#include "redirect.h"

SEC("sk_skb")
int parse(struct __sk_buff *skb)
{
	return skb->len;
}
