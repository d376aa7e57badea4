# SPDX-License-Identifier: GPL-2.0-only
"""Take a socket out of a map in every way there is, in every state its data can be in, and look what is left.

A case is a scene (`kind`, `map`, `role`, `program`), its `data`, a way out (`exit`), and the same questions afterwards.
The Observation is `{"steps": {name: answer}, "control": {name: answer}}`, in the order they were taken; a step that
makes no sense any more (the socket is closed, the map is gone) is absent; `available` is the only one where this kernel
or guest has no such socket. `control` has what sockets answer that were never in a map, and is absent where this kernel
does not insert such a socket.

- `link`: where links are to be destroyed, whether there are any, `"ok"` or the errno, and then nothing more is asked;
- `insert`, `exit`: `"ok"` or the errno;
- `data`: whether the data got into its state, `"so"`, or what it did instead: `"locked"` if a thread that
  waits for data keeps all others from the socket, and then nothing more is asked;
- `kept`: who was in the map while something still kept the socket: a duplicate, an owner, a name of the map;
- `entry`: `"gone"`, `"there"` or `"replaced"`, if lookup and iteration agree and the witness is still in the map;
- `second`: who is in the other map that the socket is in;
- `slot`: whether another socket can be inserted there, by BPF_NOEXIST;
- `poll`: what poll(2) says of the socket; `count`: whether FIONREAD tells the bytes that recv(2) then finds;
- `queued`: where the data came out that was in flight; `peer`: what else the peer reads, an end or an error;
- `receive`, `send`: where came out what the peer, and what the socket sent; `redirect`: what far sent;
- `runs`: whether the socket's own program ran on what was received (sent, for an SK_MSG program);
- `probe`: whether the socket can be inserted into another map with a verdict, `"EBUSY"` if it carries one;
- `again`: whether the socket can be inserted again, and whether the program then runs;
- `reader`, `sender`, `pollers`: whether a thread still waits in recv(2), in send(2), in poll(2), select(2) and
  epoll_wait(2), or what it came back with; `...-then`: after `receive` and `send`;
- `error`: SO_ERROR; `memory`: whether receive buffers are still charged to the socket once all was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from contextlib import suppress

from conformance.groups.teardown.guest.aftermath import Aftermath
from conformance.groups.teardown.guest.control import control
from conformance.groups.teardown.guest.data import DATA
from conformance.groups.teardown.guest.data import LOCKED
from conformance.groups.teardown.guest.exits import EXITS
from conformance.groups.teardown.guest.scene import Scene
from conformance.guestlib import kit
from conformance.guestlib import owner
from conformance.guestlib.answers import attempt
from conformance.guestlib.kit import Steps
from conformance.guestlib.proof import ImpossibleError


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    steps: Steps = {}
    try:
        with suppress(ImpossibleError), closing(Scene(params, steps)) as scene:
            _carry_out(scene, params)
        if params["program"] == "parser":
            # The kernel checks a strparser when it frees it, and is to complain while this case can still be blamed.
            kit.reap()
        # A kernel that does not insert such a socket has nothing that a control could be compared with.
        if steps.get("insert") != "ok":
            return {"steps": steps}
        return {"steps": steps, "control": control(params)}
    except BaseException:
        owner.discard()
        raise


def _carry_out(scene: Scene, params: Mapping[str, str]) -> None:
    data, steps = DATA[params["data"]], scene.steps
    if params["exit"] == "link":
        steps["link"] = attempt(scene.link)
        if steps["link"] != "ok":
            return
    data.before(scene)
    steps["insert"] = scene.insert()
    if steps["insert"] == "ok":
        steps["data"] = data.arrange(scene)
    if steps.get("data", LOCKED) != LOCKED:
        steps["exit"] = attempt(EXITS[params["exit"]], scene)
        Aftermath(scene).look()


def warm_up(params: Mapping[str, str]) -> dict[str, int]:
    """Run a case of each family, so that code, programs, threads and fences are at hand; returns how many there are."""
    usual = {"map": "sockhash", "program": "verdict", "role": "both", "exit": "delete"}
    wanted = (("tcp4", "none"), ("udp4", "pollers"), ("unix_stream", "redirected"), ("vsock_stream", "passed"))
    for kind, data in wanted:
        # What this kernel lacks, the cases will tell.
        with suppress(Exception):
            run({**usual, "kind": kind, "data": data})
    return {"cases": len(wanted)}
