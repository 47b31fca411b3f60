#!/bin/sh
# Runs "$@" where the host's devices can't be reached: in a mount namespace of its own (the caller's `unshare` made it)
# whose /dev is a small tmpfs.
#
# Why: mmdebstrap mounts /dev, /proc and /sys into the tree it makes and removes that tree when it is done. A tool of this
# kind that dies halfway, or unmounts in the wrong order, deletes what it mounted. Here there is nothing to delete but
# eight device nodes of a tmpfs. Refuses to run anything before that holds.
set -eu
umask 022

refuse() {
    echo "isolate.sh: $1; nothing was run" >&2
    exit 1
}

[ -n "$HOST_NAMESPACE" ] || refuse "HOST_NAMESPACE is not set"
[ "$(readlink /proc/self/ns/mnt)" != "$HOST_NAMESPACE" ] || refuse "this is the host's own mount namespace"
if grep -Eq ' (shared|master):' /proc/self/mountinfo; then
    refuse "mounts of this namespace would reach the host's"
fi

# Detached here alone. What is left under the name /dev is the empty folder of the root file system.
while mountpoint -q /dev; do
    umount --recursive --lazy /dev
done
mount -t tmpfs -o mode=755,size=1m peer-dev /dev
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
    mknod -m 666 "/dev/${node% *}" c 1 "${node#* }"
done
mknod -m 666 /dev/tty c 5 0
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "/dev/${number#*:}"
done
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
mount -t tmpfs -o mode=1777,size=64m shm /dev/shm

[ "$(stat -f -c %T /dev)" = tmpfs ] || refuse "/dev is not a tmpfs"
[ -z "$(find /dev -type b)" ] || refuse "/dev holds block devices"
if grep -q ' - devtmpfs ' /proc/self/mountinfo; then
    refuse "the host's devices are still mounted somewhere"
fi
exec "$@"
