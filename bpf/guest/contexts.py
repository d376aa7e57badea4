# SPDX-License-Identifier: GPL-2.0-only
"""Every type of BPF program: how it is loaded, and where its context has a socket. Data only, for guest and host."""

from __future__ import annotations

from dataclasses import dataclass

SLEEPABLE = 1 << 4
"""BPF_F_SLEEPABLE."""


@dataclass(frozen=True)
class Context:
    """One kind of program."""

    type: int
    """enum bpf_prog_type."""
    attach_type: int = 0
    """enum bpf_attach_type, as expected_attach_type."""
    function: str = ""
    """The kernel function it is loaded for, whose BTF id is its attach_btf_id; `btf_trace_*` is a tracepoint."""
    socket: int | None = None
    """Offset in the program's context of a pointer to a socket, if it has one."""
    flags: int = 0
    """Load flags."""
    answer: int = 0
    """The value that the program must return; most types may return 0."""


_SKB = 168
"""Of `struct __sk_buff`, member `sk`."""

CONTEXTS = {
    "socket_filter": Context(1, socket=_SKB),
    "sched_cls": Context(3, socket=_SKB),
    "sched_act": Context(4, socket=_SKB),
    "xdp": Context(6, 37),
    "flow_dissector": Context(22, 17),
    "netfilter": Context(32, 45),
    "lwt_in": Context(10, socket=_SKB),
    "lwt_out": Context(11, socket=_SKB),
    "lwt_xmit": Context(12, socket=_SKB),
    "lwt_seg6local": Context(19, socket=_SKB),
    "sk_lookup": Context(30, 36, socket=0),
    "sk_reuseport": Context(21, socket=40),
    "sk_reuseport_migrate": Context(21, 40, socket=40),
    "sk_skb": Context(14, socket=_SKB),
    "sk_skb_parser": Context(14, 4, socket=_SKB),
    "sk_skb_verdict": Context(14, 38, socket=_SKB),
    "sk_msg": Context(16, 7, socket=72),
    "sock_ops": Context(13, 3, socket=184),
    "cgroup_skb": Context(8, socket=_SKB),
    "cgroup_sock_create": Context(9, 2),
    "cgroup_sock_post_bind": Context(9, 12),
    "cgroup_sock_release": Context(9, 34),
    "cgroup_bind4": Context(18, 8, socket=64),
    "cgroup_connect4": Context(18, 10, socket=64),
    "cgroup_sendmsg4": Context(18, 14, socket=64),
    "cgroup_recvmsg4": Context(18, 19, socket=64, answer=1),
    "cgroup_getpeername4": Context(18, 29, socket=64, answer=1),
    "cgroup_unix_connect": Context(18, 49, socket=64),
    "cgroup_getsockopt": Context(25, 21, socket=0),
    "cgroup_setsockopt": Context(25, 22, socket=0),
    "cgroup_device": Context(15, 6),
    "cgroup_sysctl": Context(23, 18),
    "kprobe": Context(2),
    "kprobe_multi": Context(2, 42),
    "tracepoint": Context(5),
    "perf_event": Context(7),
    "raw_tracepoint": Context(17),
    "raw_tracepoint_writable": Context(24),
    "tp_btf": Context(26, 23, function="btf_trace_tcp_destroy_sock", socket=0),
    "fentry": Context(26, 24, function="tcp_close", socket=0),
    "fexit": Context(26, 25, function="tcp_close", socket=0),
    "fmod_ret": Context(26, 26, function="security_socket_listen"),
    "lsm": Context(29, 27, function="bpf_lsm_sock_graft", socket=0),
    "lsm_sleepable": Context(29, 27, function="bpf_lsm_socket_listen", flags=SLEEPABLE),
    "lsm_cgroup": Context(29, 43, function="bpf_lsm_socket_listen", answer=1),
    "iter_sockmap": Context(26, 28, function="bpf_iter_sockmap", socket=24),
    "iter_tcp": Context(26, 28, function="bpf_iter_tcp", socket=8),
    "iter_udp": Context(26, 28, function="bpf_iter_udp", socket=8),
    "iter_unix": Context(26, 28, function="bpf_iter_unix", socket=8),
    "iter_task": Context(26, 28, function="bpf_iter_task"),
    "syscall": Context(31, flags=SLEEPABLE),
}
"""By name; a kernel refuses to load the types that it does not know."""
