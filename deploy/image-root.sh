#!/bin/sh
# image-root.sh BINARY OUT - lay out a root folder with BINARY, every shared library that it loads (as
# ldd finds them, and OpenBLAS, which is loaded by name when it is asked for), and those libraries'
# copyright notices. Used by the Dockerfile.
set -eu
bin=$1 out=$2
install -D -m 0755 "$bin" "$out/usr/local/bin/$(basename "$bin")"
blas=$(ldconfig -p | sed -n 's/^[[:space:]]*libopenblas\.so\.0 .*=> //p' | head -n 1)
[ -n "$blas" ] || { echo "image-root.sh: no libopenblas.so.0 here" >&2; exit 1; }
{ echo "	$blas (0)"; ldd "$bin" "$blas"; } | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u |
while read -r lib; do
    install -D -m 0755 "$(readlink -f "$lib")" "$out$lib"
    real=$(readlink -f "$lib")
    pkg=$(dpkg -S "$real" 2>/dev/null || dpkg -S "${real#/usr}" 2>/dev/null || true)
    pkg=$(echo "$pkg" | head -n 1 | cut -d: -f1)
    [ -n "$pkg" ] && [ -f "/usr/share/doc/$pkg/copyright" ] &&
        install -D -m 0644 "$(readlink -f "/usr/share/doc/$pkg/copyright")" \
            "$out/usr/share/doc/$pkg/copyright"
done
# Where programs look before numbers become names: saed is asked for 0.0.0.0 and localhost only.
mkdir -p "$out/etc"
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
