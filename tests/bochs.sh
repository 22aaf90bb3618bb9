#!/usr/bin/env bash
# bochs.sh <kernel> <program> [argument...]: runs a program on a processor with AVX-512, wherever: Bochs emulates a
# Skylake-X, on which the given Linux kernel boots with the program and its libraries in memory. Prints what the program
# printed once it has ended, and ends as it did. Variables HEADWISE_* are handed on; no file is there but the libraries.
#
# `cmake/run cross avx512` installs what this needs: bochs with bochs-term, bochsbios and vgabios, busybox-static, cpio,
# and grub-mkrescue with xorriso, mtools and grub-pc-bin.
set -euo pipefail
kernel=$1 program=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The memory that Linux starts from.
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp /bin/busybox "$root/bin/"
strip -o "$root/program" "$program"
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp --dereference "$library" "$root$library"
done
library_path=$(ldd "$program" | grep -o '/[^ ]*' | xargs -n1 dirname | sort -u | paste -sd:)
{
  echo '#!/bin/busybox sh'
  echo '/bin/busybox --install -s /bin'
  echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev'
  echo "export LD_LIBRARY_PATH=$library_path OMP_NUM_THREADS=1"
  env | sed -n '/^HEADWISE_/p' | while IFS='=' read -r name value; do printf 'export %s=%q\n' "$name" "$value"; done
  printf '/program%s > /tmp/output 2>&1\n' "$(printf ' %q' "$@")"
  # Between two lines of its own: what the kernel says goes the same way.
  echo 'status=$?; echo "<<<"; cat /tmp/output; echo ">>> $status"; sleep 1; poweroff -f'
} > "$root/init"
chmod +x "$root/init"

mkdir -p "$work/disc/boot/grub"
(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 > "$work/disc/boot/root.gz"
cp "$kernel" "$work/disc/boot/vmlinuz"
# Without xsaves: Linux 6.1 and Bochs 2.7 disagree about its size, upon which Linux offers no AVX at all.
cat > "$work/disc/boot/grub/grub.cfg" <<'END'
set timeout=0
menuentry program {
  linux /boot/vmlinuz console=ttyS0,115200 quiet loglevel=0 nokaslr mitigations=off clearcpuid=xsaves,xsavec tsc=reliable panic=1
  initrd /boot/root.gz
}
END
grub-mkrescue -o "$work/disc.iso" "$work/disc" > /dev/null 2>&1

cat > "$work/bochsrc" <<END
display_library: term
megs: 2000
cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
log: $work/log
panic: action=fatal
error: action=ignore
info: action=ignore
clock: sync=none, time0=local
END
# Debian's Bochs begins in its debugger, and shows the screen on a terminal of its own, where somebody must look.
echo continue > "$work/debugger"
mkfifo "$work/keys"
: > "$work/messages"
TERM=xterm script -qfc "bochs -q -f $work/bochsrc -rc $work/debugger" /dev/null <> "$work/keys" > "$work/messages" 2>&1 &
bochs=$!
until screen=$(grep -o '/dev/pts/[0-9]*' "$work/messages"); do
  kill -0 $bochs || { cat "$work/messages" >&2; exit 1; }
  sleep 1
done
stty -F "$screen" raw -echo
cat "$screen" > "$work/screen" 2> /dev/null &
wait $bochs || true
kill $! 2> /dev/null || true

tr -d '\r' < "$work/serial" | sed -n '/^<<<$/,/^>>> /p' | sed '1d;$d'
status=$(tr -d '\r' < "$work/serial" | sed -n 's/^>>> //p')
[[ -n $status ]] || { echo "$(basename "$0"): the emulated machine did not end" >&2; tail -n 20 "$work/serial" >&2; exit 1; }
exit "$status"
