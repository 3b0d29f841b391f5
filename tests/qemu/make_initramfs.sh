#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds a small Linux to run as a guest: busybox, a few modules of the installed cloud kernel, a greeting and a shell
# on the serial console, and a power button that works.
# usage: make_initramfs.sh OUTPUT [KERNEL-VERSION]
set -eu

output=${1:?usage: make_initramfs.sh OUTPUT [KERNEL-VERSION]}
version=${2:-}
if [ -z "$version" ]; then
    for modules in /lib/modules/*-cloud-*; do [ -d "$modules" ] && version=${modules##*/}; done
fi
modules=/lib/modules/$version
busybox=$(command -v busybox) || { echo "busybox is not installed (package busybox-static)" >&2; exit 1; }
[ -n "$version" ] && [ -f "$modules/modules.dep" ] || { echo "no cloud kernel in /lib/modules (package linux-image-cloud-amd64)" >&2; exit 1; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root$modules"
cp "$busybox" "$root/bin/busybox"
cp "$modules/modules.dep" "$root$modules/"

wanted="button evdev pvpanic-pci pvpanic-mmio virtio_pci virtio_blk virtio_net virtio_console virtio_balloon"
for name in $wanted; do
    line=$(grep "/$name\.ko[^:]*:" "$modules/modules.dep") || continue
    for file in $(echo "$line" | tr -d ':'); do
        mkdir -p "$root$modules/${file%/*}"
        cp "$modules/$file" "$root$modules/$file"
    done
done

cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
for module in button evdev pvpanic-pci pvpanic-mmio virtio_pci virtio_blk virtio_net virtio_console virtio_balloon; do
    modprobe $module 2>/dev/null
done
for device in /sys/class/input/event*; do
    [ "$(cat $device/device/name)" = "Power Button" ] || continue
    exec 3</dev/input/${device##*/}  # open before the greeting, so that no press is lost
    (dd bs=24 count=1 of=/dev/null <&3 2>/dev/null
     echo "virtbus-guest: power button" > /dev/console
     sync
     poweroff -f) &
done
echo "virtbus-guest: ready, Linux $(uname -r)"
while true; do setsid cttyhack sh; done
INIT
chmod 755 "$root/init"

(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet) > "$output.new"
mv "$output.new" "$output"
