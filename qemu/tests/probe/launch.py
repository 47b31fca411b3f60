"""Somebody in the agent's place: runs with exactly the runtime's rights, and tells what it could do.

It keeps the runtime's health contract, so the node takes it for one. Each probe reports facts of the kernel: errno
values, /proc, counts. It is built into a root of its own by the gates and is in no release.
"""

import errno
import json
import os
import resource
import signal
import socket
import sys

USR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:] = [f"{USR}/lib/python3.13", f"{USR}/lib/python3.13/lib-dynload"]

import hashlib

COLD = "/usr/share/astromesh/cold"


def attempt(call, *arguments):
    """The name of the errno a call ends with, or "ok"."""
    try:
        result = call(*arguments)
        if isinstance(result, int) and call is os.open:
            os.close(result)
        return "ok"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def writes():
    """Every way to change the root, in every directory of it and on every file."""
    device = os.stat("/").st_dev
    outcomes = {}
    attempts = 0

    def note(result):
        nonlocal attempts
        attempts += 1
        outcomes[result] = outcomes.get(result, 0) + 1

    for top, directories, files in os.walk("/"):
        if os.stat(top).st_dev != device:
            directories[:] = []
            continue
        target = os.path.join(top, "probe")
        note(attempt(os.open, target, os.O_CREAT | os.O_WRONLY))
        note(attempt(os.mkdir, target))
        note(attempt(os.symlink, "x", target))
        for name in files:
            path = os.path.join(top, name)
            if os.path.islink(path) or os.lstat(path).st_dev != device:
                continue
            note(attempt(os.open, path, os.O_WRONLY))
            note(attempt(os.open, path, os.O_RDWR | os.O_TRUNC))
            note(attempt(os.unlink, path))
            note(attempt(os.chmod, path, 0o777))
            note(attempt(os.utime, path))
    return {"attempts": attempts, "outcomes": outcomes}


def rights():
    """Who the process is to the kernel."""
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    # mountinfo: the mount point is the fifth field, its options the sixth, the type after the dash.
    mounts = {}
    for line in open("/proc/self/mountinfo"):
        fields = line.split()
        mounts[fields[4]] = [fields[5], fields[fields.index("-") + 1]]
    return {
        "uid": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "groups": os.getgroups(),
        "status": {key: status[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")},
        "pid": os.getpid(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in range(3, 64) if os.path.lexists(f"/proc/self/fd/{fd}")),
        "run": sorted(os.listdir("/run")),
        "dev": sorted(os.listdir("/dev")),
        "mounts": mounts,
        "devkmsg": open("/proc/sys/kernel/printk_devkmsg").read().strip(),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "tmp": attempt(os.open, "/tmp/probe", os.O_CREAT | os.O_WRONLY),
        "home": attempt(os.open, os.environ["HOME"] + "/probe", os.O_CREAT | os.O_WRONLY),
        "setuid": attempt(os.setuid, 0),
        "kernel": attempt(os.open, "/proc/sys/kernel/hostname", os.O_WRONLY),
        "unshare": attempt(os.unshare, os.CLONE_NEWNET),
        "keys": sorted(name for name in os.environ if name.endswith("_KEY")),
    }


def orphans():
    """Forks until the kernel says no; every grandchild is an orphan at once, and lives on."""
    made = 0
    while made < 5000:
        try:
            child = os.fork()
        except OSError as error:
            return {"made": made, "reason": errno.errorcode[error.errno]}
        if child == 0:
            try:
                if os.fork() == 0:
                    signal.pause()
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if code := os.waitstatus_to_exitcode(status):
            return {"made": made, "reason": errno.errorcode.get(code, str(code))}
        made += 1
    return {"made": made, "reason": "nothing stopped it"}


def cold():
    """Reads the file that nothing else reads."""
    data = open(COLD, "rb").read()
    return {"bytes": len(data)}


def reach():
    """Tries to reach addresses that are nobody's, and the metadata service's, from a closed network."""
    results = {}
    for address in (("198.51.100.1", 80), ("169.254.169.254", 80), ("10.0.2.2", 53), ("192.0.2.1", 443)):
        with socket.socket() as tcp:
            tcp.settimeout(4)
            try:
                tcp.connect(address)
                results[address[0]] = "connected"
            except TimeoutError:
                results[address[0]] = "timeout"
            except OSError as error:
                results[address[0]] = errno.errorcode.get(error.errno, str(error))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(3)
        # A question for a name, as a resolver sends it.
        udp.sendto(bytes.fromhex("123401000001000000000000076578616d706c6503636f6d0000010001"), ("10.0.2.3", 53))
        try:
            results["dns"] = udp.recv(512).hex()
        except TimeoutError:
            results["dns"] = "timeout"
        except OSError as error:
            results["dns"] = errno.errorcode.get(error.errno, str(error))
    return results


def sockets():
    """The tables of this machine's sockets, which the runtime sees too: its network is the machine's."""
    return {name: open(f"/proc/net/{name}").read() for name in ("tcp", "tcp6", "udp", "udp6")}


KEPT = os.environ.get("HOME", "/") + "/kept"


def kept():
    """What an earlier boot left on /var, and how large /var is."""
    var = os.statvfs("/var/lib/astromesh")
    try:
        content = open(KEPT, "rb").read()
    except FileNotFoundError:
        content = b""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "room": var.f_blocks * var.f_frsize}


def keep():
    """Leaves three MiB on /var, and makes sure that they are on the disk."""
    with open(KEPT, "wb") as file:
        file.write(os.urandom(3 << 20))
        file.flush()
        os.fsync(file.fileno())
    return kept()


PROBES = {"keep": keep, "kept": kept, "writes": writes, "rights": rights, "orphans": orphans, "cold": cold, "reach": reach, "sockets": sockets}


def answer(path):
    if path == "/v1/health":
        return {"status": "ok", "version": "probe"}
    if path == "/v1/agents":
        return {"agents": [{"name": "assistant", "status": "deployed"}]}
    if path == "/v1/system/doctor":
        return {"healthy": True, "checks": {}}
    probe = PROBES.get(path.removeprefix("/probe/"))
    return probe() if probe else None


def main():
    host, port = os.environ["ASTROMESH_LISTEN"].rsplit(":", 1)
    listener = socket.create_server((host, int(port)))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        connection, _ = listener.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    break
                head += piece
            words = head.split(b" ", 2)
            if len(words) < 2:
                continue
            try:
                found = answer(words[1].decode())
            except Exception as error:  # a probe that breaks is a result
                found = {"broken": repr(error)}
            body = json.dumps(found).encode()
            code = b"404 Not Found" if found is None else b"200 OK"
            try:
                connection.sendall(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (code, len(body), body))
            except OSError:
                pass


main()
