"""A Kubernetes cluster to test against: its API on loopback, its controllers, and one node.

    with SimulatedCluster() as cluster:
        cluster.write_kubeconfig(path)

`python -m tests.simulation --kubeconfig FILE` serves one until it gets a signal. It plays as much of Kubernetes as the
product's tests need; what it says is held to `tests/recordings/` by the tests in this folder.

**The way of one request.** `server.py` reads it from its connection; `cluster.py` notes it in `requests`, says who
asks, and looks for a fault. `request.py` says what it means: verb, kind, namespace, name, selectors. `api.py` answers
it: `admission.py` refuses what RBAC's rules, a quota or the pod security policy forbid; `schema.py` decodes, completes
and checks what is sent; `patch.py` merges patches; `lists.py` cuts lists into pages; `refusals.py` has the API server's
words for each refusal, most of them replayed from `tests/recordings/errors.json`. `store.py` keeps the objects, writes
each change under the next resourceVersion, and offers it to the open watches; `server.py` sends what they hold.

**The controllers and the node.** The store reports each change to `controllers.py` (the replica set controller and
the garbage collector; `deployments.py` is the deployment controller) and to `kubelet.py` (the scheduler, events and
logs). There each pod has a `worker.py`, and each container a `container.py`: they do what a real kubelet was recorded
to do, and `test_recordings.py` holds them to `tests/recordings/kubelet/`. All act at once or later on the one thread of
`clock.py`, and what they write is a change again.

**What a container does** is decided by a word in its image's name, in the table BEHAVIOURS of `node.py`:
`acme/web:crash` exits with 1 half a second after each start. A manifest decides too: a command in `/no/such/` can't be
started, one with `while` hangs; a probe of `/nope` fails; the ConfigMap or Secret `nope` isn't there; a registry on
127.0.0.1 is away; 64 CPUs don't fit; `acme/web` runs as root. `SimulatedCluster(speed=…)`: how many times faster than a
real kubelet its back-offs, probes and repetitions are. What a program does itself takes its time at every speed.

**Faults.** `cluster.fail(times, method, path, …)` makes the next requests that match fail: with a status, with a
connection that ends, late, or after a call that changes the cluster in between. `stop_serving()` and `serve_again()`
take the API away and bring it back. `cut_watches()`, `silence_watches()` and `expire_history()` break watches and
pages. `set_quota()`, `rules`, `evict()`, `drain()`, `digests` (a tag that moves) and `behaviours` change the cluster
itself.
"""

from .cluster import SimulatedCluster

__all__ = ["SimulatedCluster"]
