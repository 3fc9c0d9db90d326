#!/bin/sh
# PID 1 of fresh namespaces: lays a throw-away file system over /, copies what a test needs into it, and becomes systemd.
# Called by booted.py through unshare; nothing outside of its namespaces is changed.   boot.sh FILES_DIR
set -e
files=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 over /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work over /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 run run
# What this machine itself runs is not wanted in here.
rm -rf etc/systemd/system/*.wants etc/systemd/system/ringlane* var/log/journal usr/sbin/policy-rc.d
: >etc/machine-id
for unit in getty.target systemd-logind.service systemd-udevd.service systemd-udev-trigger.service systemd-timesyncd.service \
    systemd-modules-load.service systemd-sysctl.service systemd-update-utmp.service systemd-random-seed.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount; do
    ln -sf /dev/null etc/systemd/system/$unit
done
systemctl --root=. --quiet enable dbus.socket
mkdir -p srv
cp -a "$files"/. srv/
pivot_root . mnt
umount -l mnt
cd /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target \
    --log-target=journal --show-status=no </dev/null
