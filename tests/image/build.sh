#!/bin/sh
# build.sh BUILD - the container image localhost/saed from the Dockerfile: debootstrap makes the Debian
# base (kept in BUILD/image-base-trixie for the next run), buildah builds on it. Needs root.
# What the tools say goes to BUILD/log/image.log, and its end to stdout when something fails.
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
b="buildah --storage-driver vfs"
suite=trixie base=localhost/debian:trixie-slim
mkdir -p "$build/log"
log=$build/log/image.log
: >"$log"
die() {
    tail -n 30 "$log"
    echo "cannot $1" >&2
    exit 1
}

if ! $b images -q "$base" >/dev/null 2>&1; then
    root=$build/image-base-$suite
    if [ ! -f "$root.done" ]; then
        # The mirror that this machine's own apt uses has every suite.
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep '/debian/*$' | head -n 1)
        rm -rf "$root"
        debootstrap --variant=minbase "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" >>"$log" 2>&1 ||
            die "make the Debian base"
        touch "$root.done"
    fi
    c=$($b from scratch) && $b add "$c" "$root" / >>"$log" 2>&1 &&
        $b commit "$c" "$base" >>"$log" 2>&1 && $b rm "$c" >>"$log" 2>&1 || die "import the base"
fi
$b bud --isolation chroot --network host --build-arg BASE=$base \
    --build-arg COMMIT="$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)" --layers=false -t localhost/saed . >>"$log" 2>&1 ||
    die "build the image"
echo "built localhost/saed on Debian $(cat "$build/image-base-$suite/etc/debian_version" 2>/dev/null || echo "$suite")"
