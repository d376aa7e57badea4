// SPDX-License-Identifier: GPL-2.0-only
/* Select from a reuseport group by a SOCKMAP or SOCKHASH. */
#include "steer.h"

static long (*bpf_sk_select_reuseport)(struct sk_reuseport_md *, void *map, void *key, __u64 flags) =
	(void *)BPF_FUNC_sk_select_reuseport;

SEC("sk_reuseport")
int steer(struct sk_reuseport_md *context)
{
	struct orders *orders = get_orders();
	__u32 key;
	long answer;

	if (!orders)
		return SK_PASS;
	key = orders->key;
	answer = bpf_sk_select_reuseport(context, &table, &key, 0);
	report(orders, 0, answer);
	return answer && orders->refuse ? SK_DROP : SK_PASS;
}
