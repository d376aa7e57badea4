/* SPDX-License-Identifier: GPL-2.0-only */
/* What the sock_ops programs share. */
#ifndef SOCK_OPS_H
#define SOCK_OPS_H

#include "enrol.h"

static long (*bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *, int flags) = (void *)BPF_FUNC_sock_ops_cb_flags_set;

/* A port in network byte order, as 32 bits. */
INLINE __u32 host_order(__u32 port)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32(port) : port;
}

/* Do all but enrol; whether to enrol under `key`. */
INLINE int begin(struct bpf_sock_ops *ops, struct orders *orders, __u32 *key)
{
	__u32 op = ops->op;

	if (ops->local_port != orders->port && host_order(ops->remote_port) != orders->port)
		return 0;
	if (op == BPF_SOCK_OPS_TIMEOUT_INIT && orders->timeout)
		ops->reply = orders->timeout;
	if (orders->wanted && (op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_TCP_LISTEN_CB))
		bpf_sock_ops_cb_flags_set(ops, orders->wanted);
	if (op >= CALLBACKS || !(orders->callbacks >> op & 1))
		return 0;
	*key = orders->spread ? op : orders->key;
	return 1;
}

#endif
