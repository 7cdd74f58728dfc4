#!/bin/sh
# tidy.sh BUILD - clang-tidy on the daemon's C sources, two at a time; files unchanged since their
# last clean run are passed over. The checks are in .clang-tidy.
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
mkdir -p "$build/tidy"
flags="-std=c17 -I. -D_GNU_SOURCE -ffp-contract=off $(pkg-config --cflags libmicrohttpd jansson libzip zlib openblas)"
one() {
    stamp=$build/tidy/$(echo "$1" | tr / _)
    new=$(cat .clang-tidy "$1" lib/*.h lib/*/*.h lib/*/*/*.h proto/*.h proto/*/*.h server/*.h server/*/*.h | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$new" ] && return 0
    case $1 in
    *_avx2.c) isa='-mavx2 -mfma -mf16c' ;;
    *_avxvnni.c) isa='-mavx2 -mfma -mavxvnni' ;;
    *_avx512.c) isa='-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma' ;;
    *_vnni.c) isa='-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma' ;;
    *) isa= ;;
    esac
    # shellcheck disable=SC2086
    if clang-tidy --quiet "$1" -- $flags $isa 2>/dev/null; then
        echo "$new" >"$stamp"
    else
        echo "clang-tidy: $1"
        return 1
    fi
}
if [ $# -gt 1 ]; then
    one "$2"
    exit $?
fi
if git ls-files 'lib/*.c' 'proto/*.c' 'server/*.c' | xargs -P 2 -I{} sh "$0" "$build" {}; then
    echo "clang-tidy: ok"
else
    exit 1
fi
