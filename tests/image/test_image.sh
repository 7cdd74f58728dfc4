#!/bin/sh
# test_image.sh BUILD - build the container image for real and use it.
#
# debootstrap makes the Debian base (kept in BUILD/image-base for the next run), buildah builds the
# Dockerfile on it and runs the result in a chroot as a uid that owns nothing there. Needs root.
# Prints the image's size; the last line is "N passed, N failed".
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; }
check() { # check WHAT COMMAND...
    what=$1; shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
finish() {
    [ -n "${pid:-}" ] && kill "$pid" 2>/dev/null
    [ -n "${ctr:-}" ] && $b rm "$ctr" >/dev/null 2>&1
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit $?
}
b="buildah --storage-driver vfs"
base=localhost/debian:bookworm-slim
mkdir -p "$build/log"
log=$build/log/image.log
: >"$log"

# The mirror and settings that this machine's own apt uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 2>/dev/null | grep '/debian/*$' | head -n 1)
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | head -n 1)

if ! $b images -q "$base" >/dev/null 2>&1; then
    root=$build/image-base
    if [ ! -f "$root.done" ]; then
        rm -rf "$root"
        if ! debootstrap --variant=minbase bookworm "$root" "$mirror" >>"$log" 2>&1; then
            tail -n 5 "$log"; bad "debootstrap"; finish
        fi
        cp -a /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null &&
            : >"$root/etc/apt/sources.list"
        touch "$root.done"
    fi
    c=$($b from scratch) && $b add "$c" "$root" / >>"$log" 2>&1 &&
        $b commit "$c" "$base" >>"$log" 2>&1 && $b rm "$c" >>"$log" 2>&1 || { bad "import base"; finish; }
fi
ok "base image"

if $b bud --isolation chroot --network host --build-arg BASE=$base --layers=false -t localhost/saed . >>"$log" 2>&1
then ok "Dockerfile builds"; else tail -n 30 "$log"; bad "Dockerfile builds"; finish; fi

ctr=$($b from localhost/saed) || { bad "container"; finish; }
mnt=$($b mount "$ctr")
echo "image size: $(du -sm "$mnt" | cut -f1) MB in $(find "$mnt" -type f | wc -l) files, of which saed $(du -sk "$mnt/usr/local/bin/saed" | cut -f1) KB"
conf=$($b inspect --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.Env}}' "$ctr")
echo "$conf"
check "numeric non-root user" sh -c "echo '$conf' | grep -qE '^[1-9][0-9]*(:[1-9][0-9]*)? '"
check "health check by --probe" sh -c "$b inspect '$ctr' | grep -q -- --probe"
check "no shell in the image" sh -c "! test -e '$mnt/bin/sh'"
check "nothing writable for others" sh -c "test -z \"\$(find '$mnt' -perm -o+w ! -type l ! -path '$mnt/dev/*' ! -path '$mnt/proc/*' ! -path '$mnt/sys/*' | head -n 3)\""
$b umount "$ctr" >/dev/null

# A uid that the image does not know and that owns nothing: what runs so needs no writable root.
# Loopback only: the image's own 0.0.0.0 is replaced for this test.
out=$build/log/image-run.log
$b run --isolation chroot --user 23456:34567 "$ctr" -- /usr/local/bin/saed --listen 127.0.0.1:0 \
    digits=/dictionaries/digits.pt >"$out" 2>"$build/log/image-run.err" &
pid=$!
url=
for _ in $(seq 100); do
    url=$(sed -n 's/^listening on //p' "$out")
    [ -n "$url" ] && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$url" ]; then cat "$build/log/image-run.err"; bad "runs as any uid"; finish; fi
ok "runs as any uid"
check "answers encode" sh -c "curl -sS --fail --json @deploy/demo/sample.json '$url/v1/dictionaries/digits/encode?top_k=2' | grep -q '\"values\":'"
check "probe says ready" $b run --isolation chroot "$ctr" -- /usr/local/bin/saed --probe "$url/readyz"
saed=$(pgrep -f "saed --listen 127.0.0.1:0 digits=/dictionaries/digits.pt" | tail -n 1)
[ -n "$saed" ] && kill "$saed"
if wait "$pid"; then ok "SIGTERM stops it with status 0"; else bad "SIGTERM stops it with status 0"; fi
pid=
check "OpenBLAS is there for --engine openblas" $b run --isolation chroot "$ctr" -- \
    /usr/local/bin/saed --engine openblas --check digits=/usr/share/saed/digits.pt
# The command line that the image carries: it starts, but its 0.0.0.0 is only parsed here.
check "the image's own arguments are valid" $b run --isolation chroot "$ctr" -- \
    /usr/local/bin/saed --listen 0.0.0.0:8673 --insecure-no-auth --check digits=/usr/share/saed/digits.pt
finish
