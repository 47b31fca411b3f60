#!/bin/sh
# What mmdebstrap calls at the end, with the new root as "$1": the runtime in a venv, its unit, the network.
# OVERLAY has the files below their places, SITE what pip made of the pinned wheels; both older than this run, because
# mmdebstrap sets back the time of everything newer than its own start, which would make each .pyc stale.
set -eu
root=$1

cp -a "$OVERLAY/." "$root/"
chroot "$root" systemd-sysusers
chroot "$root" python3 -m venv --without-pip /opt/astromesh
site=opt/astromesh/lib/python3.13/site-packages
cp -a "$SITE/." "$root/$site/"
# The launcher looks for the wheels beside itself; it is the same file as in our image.
ln -s "/$site" "$root/usr/lib/astromesh/site"
chroot "$root" /opt/astromesh/bin/python -m compileall -q "/$site"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service astromesh.service
