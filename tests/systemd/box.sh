#!/usr/bin/env bash
# A machine in a box: the systemd of this host booted as PID 1 of namespaces of its own, over a throw-away copy of "/".
#
#   box.sh up        boot it, and wait until it is up
#   box.sh run CMD   run a command in it
#   box.sh down      power it off, and leave nothing behind
#
# $BOX is a directory for its state. $BOX_BINDS are directories to be seen in it, read-only: "FROM:TO FROM:TO".
# $BOX_ROOT is another system's root to boot instead of this one's, as mmdebstrap makes it.
# What happens in the box stays there: files are written to memory, it has a network of its own with nothing but "lo", and
# the host's services are not started. It comes before the host's own work, so that what is measured in it is that of the box:
# ten times the weight where the kernel's "cpu" controller is to be had. Needs root, overlayfs, a cgroup2 mount, and util-linux.
set -euo pipefail
: "${BOX:?a directory for the state of the box}"
self=$(readlink -f "$0")

# Everything systemd would wait for, or do to the machine, that a box has not.
absent='systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket systemd-udevd-control.socket
    systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service systemd-logind.service
    systemd-pstore.service systemd-random-seed.service systemd-sysctl.service systemd-modules-load.service
    systemd-hwdb-update.service systemd-firstboot.service systemd-update-utmp.service systemd-machine-id-commit.service
    kmod-static-nodes.service modprobe@.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
    sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount
    proc-sys-fs-binfmt_misc.mount'

# The cgroup that weighs the box against the rest of the host, in a hierarchy of its own (cgroup v1); nothing where there is none.
weighed() { awk '$3 == "cgroup" && $4 ~ /(^|,)cpu(,|$)/ { print $2; exit }' /proc/mounts; }

enter_weighed() {
    local cpu
    cpu=$(cat "$BOX/cpu" 2>/dev/null || true)
    [ -z "$cpu" ] || echo 0 >"$cpu/cgroup.procs"
}

build_root() {
    local root=$1 unit from to
    mount -t tmpfs -o mode=755,size=2g box "$BOX/disk"
    mkdir "$BOX/disk/upper" "$BOX/disk/work" "$root"
    mount -t overlay overlay -o "lowerdir=${BOX_ROOT:-/},upperdir=$BOX/disk/upper,workdir=$BOX/disk/work" "$root"

    # None of the host's services; a target that has nothing but the basics is what it boots into.
    rm -rf "$root"/etc/systemd/system/*.wants "$root/var/log/journal"
    : >"$root/etc/fstab"
    echo box >"$root/etc/hostname"
    mkdir -p "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d"
    printf '[Unit]\nDescription=the box\nRequires=sysinit.target sockets.target\nAfter=sysinit.target sockets.target\n%s' \
        $'AllowIsolate=yes\n' >"$root/etc/systemd/system/box.target"
    ln -sf box.target "$root/etc/systemd/system/default.target"
    for unit in $absent; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    printf '[Journal]\nStorage=volatile\nForwardToConsole=no\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/box.conf"

    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$root/tmp"
    mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
    for from in null zero full random urandom tty; do
        : >"$root/dev/$from"
        mount --bind "/dev/$from" "$root/dev/$from"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"

    for unit in ${BOX_BINDS:-}; do
        from=${unit%%:*} to=${unit##*:}
        mkdir -p "$root$to"
        mount --bind "$from" "$root$to"
        mount -o remount,ro,bind "$root$to"
    done
}

boot() { # the first process of the new namespaces: becomes systemd
    mount --make-rprivate /
    build_root "$BOX/disk/root"
    echo box >/proc/sys/kernel/hostname
    ip link set lo up
    cd "$BOX/disk/root"
    mkdir -p mnt
    pivot_root . mnt
    cd /
    umount -l /mnt
    mount --make-rshared / # as a machine's root is; without it LoadCredential= fails with EACCES and does not say why
    exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /lib/systemd/systemd --system \
        --show-status=0 --default-standard-output=journal </dev/null
}

up() {
    local cgroup2 cpu outer state='' pid=''
    trap '[ $? -eq 0 ] || down' EXIT
    cgroup2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$cgroup2" ] || { echo "box: no cgroup2 is mounted on this machine" >&2; exit 1; }
    mkdir -p "$BOX/disk"
    mkdir "$cgroup2/aiorch-box.$$"
    echo "$cgroup2/aiorch-box.$$" >"$BOX/cgroup"
    cpu=$(weighed)
    if [ -n "$cpu" ] && mkdir "$cpu/aiorch-box.$$" 2>/dev/null; then
        echo "$cpu/aiorch-box.$$" >"$BOX/cpu"
        echo 10240 >"$cpu/aiorch-box.$$/cpu.shares"
    else
        echo 1000 2>/dev/null >"$cgroup2/aiorch-box.$$/cpu.weight" || true
    fi
    # It enters its cgroup first and takes that for the root of all cgroups then, so that no process of ours is in it.
    setsid unshare --mount --pid --uts --ipc --net --fork bash -c \
        '[ ! -s "$BOX/cpu" ] || echo 0 >"$(cat "$BOX/cpu")/cgroup.procs"
        echo 0 >"$0/cgroup.procs" && exec unshare --cgroup bash "$1" boot' "$cgroup2/aiorch-box.$$" "$self" \
        >"$BOX/console" 2>&1 </dev/null &
    outer=$!
    for _ in $(seq 200); do
        read -r pid _ <"/proc/$outer/task/$outer/children" || true # it has no line break
        [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ] && break
        kill -0 "$outer" 2>/dev/null || { echo "box: it did not boot:" >&2; cat "$BOX/console" >&2; exit 1; }
        sleep 0.05
    done
    echo "$pid" >"$BOX/pid"
    for _ in $(seq 400); do
        state=$("$self" run systemctl is-system-running 2>/dev/null || true)
        case $state in running | degraded) return ;; esac
        sleep 0.05
    done
    echo "box: it is '$state' after 20 s" >&2
    exit 1
}

run() {
    enter_weighed
    exec nsenter -t "$(cat "$BOX/pid")" -m -p -u -i -n -C -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        HOME=/root TERM=dumb "$@"
}

down() {
    local pid cgroup
    pid=$(cat "$BOX/pid" 2>/dev/null || true)
    if [ -n "$pid" ] && [ -d "/proc/$pid" ]; then
        kill -s RTMIN+4 "$pid" 2>/dev/null || true # asks systemd to power off
        for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
        [ ! -d "/proc/$pid" ] || kill -9 "$pid" || true
    fi
    cgroup=$(cat "$BOX/cgroup" 2>/dev/null || true)
    if [ -n "$cgroup" ] && [ -d "$cgroup" ]; then
        echo 1 2>/dev/null >"$cgroup/cgroup.kill" || true # whatever did not power off
        sleep 0.2
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
    cgroup=$(cat "$BOX/cpu" 2>/dev/null || true)
    [ -z "$cgroup" ] || rmdir "$cgroup" 2>/dev/null || true
    rm -rf --one-file-system "$BOX"
}

case ${1:-} in
up) up ;;
run) shift; run "$@" ;;
down) down ;;
boot) boot ;;
*) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 64 ;;
esac
