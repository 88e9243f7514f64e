#!/bin/sh
# Written by magalu-migrate, in place of cloud-init, which could not be installed in this guest.
#
# At each boot: ask for an address where nothing else has done so. Once per instance: give its key to the user below, make the SSH host
# keys that are missing, grow the root. The instance is told by its id in the metadata; the id that was last seen is in $STATE.
# POSIX shell; whatever else it uses is looked for first.

USER_NAME='@USER@'
STATE=/var/lib/magalu-migrate
SERVICE=http://169.254.169.254
ADDRESS_S=60        # how long whatever sets up the network may take before we do it ourselves
METADATA_S=300      # how long the metadata service may take to answer

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

say() { echo "magalu-migrate: $*"; }
there() { command -v "$1" >/dev/null 2>&1; }

# The network

cards() {
    for card in /sys/class/net/*; do
        [ -e "$card/device" ] && [ "$(cat "$card/type")" = 1 ] && basename "$card"
    done
}

has_address() { # whether a real card has a route, which comes with every lease
    while read -r card _; do
        [ -e "/sys/class/net/$card/device" ] && return 0
    done </proc/net/route
    return 1
}

wait_for_address() { # SECONDS
    left=$1
    until has_address; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 1
    done
}

by_networkd() {
    there systemctl && [ -e /lib/systemd/systemd-networkd ] || return 1
    mkdir -p /run/systemd/network
    {
        echo '[Match]'
        echo "Name=$(cards | tr '\n' ' ')"
        echo '[Network]'
        echo 'DHCP=yes'
    } >/run/systemd/network/90-magalu-migrate-first-boot.network
    systemctl unmask --runtime systemd-networkd.service systemd-networkd.socket 2>/dev/null
    systemctl start systemd-networkd.service
}

name_servers() { # of systemd-networkd's leases, where nothing else writes them down
    [ -L /etc/resolv.conf ] || grep -q '^ *nameserver' /etc/resolv.conf 2>/dev/null && return
    cat /run/systemd/netif/leases/* 2>/dev/null | sed -n 's/^DNS=//p' | tr ' ' '\n' | sed 's/^/nameserver /' >/etc/resolv.conf
}

ask_for_address() {
    for card in $(cards); do
        if there ip; then ip link set dev "$card" up; else ifconfig "$card" up; fi
    done
    if there dhclient; then
        for card in $(cards); do dhclient -nw "$card"; done
    elif there dhcpcd; then
        dhcpcd -b
    elif there udhcpc; then
        for card in $(cards); do udhcpc -b -S -i "$card"; done
    elif there busybox && busybox --list 2>/dev/null | grep -qx udhcpc; then
        for card in $(cards); do busybox udhcpc -b -S -i "$card"; done
    else
        return 1
    fi
}

bring_up_network() {
    wait_for_address "$ADDRESS_S" && return
    say "no network card has an address: asking for one by DHCP"
    by_networkd || ask_for_address || say "there is no DHCP client"
    wait_for_address "$ADDRESS_S" || say "nobody gave an address"
    name_servers
}

# The metadata

get_by_bash() { # PATH
    # shellcheck disable=SC2016
    bash -c '
        exec 3<>/dev/tcp/169.254.169.254/80 || exit 7
        printf "GET /%s HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n" "$1" >&3
        IFS= read -r status <&3
        case $status in *" 200 "*) ;; *) exit 22 ;; esac
        while IFS= read -r line <&3 && [ -n "${line%?}" ]; do :; done
        cat <&3' bash "$1" 2>/dev/null
}

PYTHON_GET='
import sys
try:
    from urllib.request import ProxyHandler, build_opener
except ImportError:
    from urllib2 import ProxyHandler, build_opener
sys.stdout.write(build_opener(ProxyHandler({})).open(sys.argv[1], None, 20).read().decode("utf-8", "replace"))'

get() { # PATH: what the metadata service has there, on standard output
    if there curl; then
        curl -fsS --connect-timeout 5 --max-time 20 "$SERVICE/$1" 2>/dev/null
    elif there wget; then
        timeout 30 wget -q -O - "$SERVICE/$1" 2>/dev/null
    elif there python3; then
        python3 -c "$PYTHON_GET" "$SERVICE/$1" 2>/dev/null
    elif there bash; then
        if there timeout; then timeout 30 "$0" --get "$1"; else get_by_bash "$1"; fi
    elif there python; then
        python -c "$PYTHON_GET" "$SERVICE/$1" 2>/dev/null
    else
        say "neither curl, wget, python3 nor bash is there to ask the metadata service" >&2
        return 1
    fi
}

drive() { # the configuration drive's meta_data.json, on standard output
    device=$(blkid -L config-2 2>/dev/null || blkid -L CONFIG-2 2>/dev/null) && [ -n "$device" ] || return 1
    mkdir -p /run/magalu-migrate
    mount -o ro "$device" /run/magalu-migrate 2>/dev/null || return 1
    cat /run/magalu-migrate/openstack/latest/meta_data.json
    found=$?
    umount /run/magalu-migrate
    return $found
}

# shellcheck disable=SC2020  # sets of characters are meant
uuid_in() { tr ',{}' '\n\n\n' | sed -n 's/^ *"uuid" *: *"\([A-Za-z0-9._-]*\)" *$/\1/p' | head -n 1; }

KEY='^(ssh-[a-z0-9]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) AAAA'

keys_in() { tr '"' '\n' | sed -e 's/\\n.*//' -e 's,\\/,/,g' | grep -E "$KEY" | sort -u; }

keys_of_ec2() {
    { get latest/meta-data/public-keys/ && echo; } | sed -n 's/^\([0-9]*\)=.*/\1/p' | while read -r number; do
        get "latest/meta-data/public-keys/$number/openssh-key" && echo
    done | grep -E "$KEY"
}

read_metadata() { # sets instance and keys
    document=$(drive) || document=$(get openstack/latest/meta_data.json)
    instance=$(printf '%s\n' "$document" | uuid_in)
    keys=$(printf '%s\n' "$document" | keys_in)
    if [ -z "$instance" ]; then
        instance=$(get latest/meta-data/instance-id | tr -cd 'A-Za-z0-9._-')
        keys=$(keys_of_ec2)
    fi
    [ -n "$instance" ]
}

wait_for_metadata() {
    end=$(($(date +%s) + METADATA_S))
    until read_metadata; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 2
    done
}

# The deeds

give_key() {
    account=$(getent passwd "$USER_NAME" 2>/dev/null || grep "^$USER_NAME:" /etc/passwd) || return 1
    owner=$(printf '%s\n' "$account" | cut -d: -f3,4)
    home=$(printf '%s\n' "$account" | cut -d: -f6)
    [ -d "$home" ] || mkdir -p "$home" && [ -d "$home" ] || return 1
    (
        umask 077
        mkdir -p "$home/.ssh"
        printf '%s\n' "$keys" | while read -r key; do
            grep -qxF "$key" "$home/.ssh/authorized_keys" 2>/dev/null || printf '%s\n' "$key" >>"$home/.ssh/authorized_keys"
        done
    ) || return 1
    chown "$owner" "$home/.ssh" "$home/.ssh/authorized_keys"
    if there restorecon; then restorecon -R "$home/.ssh"; fi
    say "the instance's key opens $USER_NAME"
}

make_host_keys() {
    there ssh-keygen && mkdir -p /etc/ssh && ssh-keygen -A
    if there restorecon; then restorecon -R /etc/ssh; fi
}

root_of_mounts() { # its device and type, on one line
    while read -r device place type _; do
        [ "$place" = / ] && [ "$type" != rootfs ] && found="$device $type"
    done </proc/mounts
    echo "$found"
}

grow_partition() { # DISK NUMBER
    if there growpart; then
        growpart "/dev/$1" "$2"
    elif there sfdisk && sfdisk --help 2>&1 | grep -q -e --relocate; then # since util-linux 2.36 it moves GPT's second table
        echo ', +' | sfdisk --quiet --no-reread --no-tell-kernel --force -N "$2" "/dev/$1" && partx --update --nr "$2" "/dev/$1"
    else
        say "neither growpart nor a recent sfdisk is there: the root's partition keeps its size"
    fi
}

grow_root() {
    read -r device type <<END
$(root_of_mounts)
END
    name=$(basename "$(readlink -f "$device")")
    if [ -e "/sys/class/block/$name/partition" ]; then
        grow_partition "$(basename "$(dirname "$(readlink -f "/sys/class/block/$name")")")" "$(cat "/sys/class/block/$name/partition")"
    else
        say "the root is on $device, which is no partition: it is not grown here"
    fi
    case $type in
        ext[234]) resize2fs "$device" ;;
        xfs) xfs_growfs / ;;
        btrfs) btrfs filesystem resize max / ;;
        *) say "the root is $type, which is not grown here" ;;
    esac
}

main() {
    if there cloud-init; then
        say "cloud-init is there: nothing to do"
        return 0
    fi
    bring_up_network
    if ! wait_for_metadata; then
        say "no metadata at $SERVICE within $METADATA_S s: no key was fetched; the next boot tries again"
        return 1
    fi
    if [ "$(cat "$STATE/instance" 2>/dev/null)" = "$instance" ]; then
        say "instance $instance is set up already"
        return 0
    fi
    make_host_keys
    grow_root
    if [ -z "$keys" ]; then
        say "the metadata of instance $instance hold no key; the next boot tries again"
        return 1
    fi
    if ! give_key; then
        say "the key could not be given to $USER_NAME"
        return 1
    fi
    mkdir -p "$STATE"
    echo "$instance" >"$STATE/instance"
    say "instance $instance is set up"
}

case ${1-} in
    --get) get_by_bash "$2" ;;
    *) main ;;
esac
