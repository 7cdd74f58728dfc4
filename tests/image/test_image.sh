#!/bin/sh
# test_image.sh BUILD PROGRAM... - build the container image for real and use it.
#
# The image is run in a chroot as a uid that owns nothing there; then the test programs PROGRAM (those
# of tests/http, which run a daemon) run the image's daemon by the image's own loader and libraries.
# Needs root. Prints the image's size; each run of checks ends in "N passed, N failed".
set -u
build=$1
shift
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 begin=$(date +%s)
ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; }
check() { # check WHAT COMMAND...
    what=$1; shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
finish() {
    [ -n "${pid:-}" ] && kill "$pid" 2>/dev/null
    [ -n "${ctr:-}" ] && $b rm "$ctr" >/dev/null 2>&1
    echo "took $(($(date +%s) - begin)) s"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit $?
}
leaf() { # leaf PID: the last of its children's children
    p=$1
    while c=$(pgrep -P "$p" | tail -n 1) && [ -n "$c" ]; do p=$c; done
    echo "$p"
}
b="buildah --storage-driver vfs"

if sh tests/image/build.sh "$build"; then ok "Dockerfile builds"; else bad "Dockerfile builds"; finish; fi
ctr=$($b from localhost/saed) || { bad "container"; finish; }
mnt=$($b mount "$ctr")
echo "image size: $(du -sm "$mnt" | cut -f1) MB in $(find "$mnt" -type f | wc -l) files, of which saed $(du -sk "$mnt/usr/local/bin/saed" | cut -f1) KB"
conf=$($b inspect --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.Env}}' "$ctr")
echo "$conf"
check "numeric non-root user" sh -c "echo '$conf' | grep -qE '^[1-9][0-9]*(:[1-9][0-9]*)? '"
check "listens on all addresses of both families" sh -c "echo '$conf' | grep -qF -- '--listen [::]:8673'"
check "health check by --probe" sh -c "$b inspect '$ctr' | grep -q -- --probe"
check "no shell in the image" sh -c "! test -e '$mnt/bin/sh'"
check "nothing writable for others" sh -c "test -z \"\$(find '$mnt' -perm -o+w ! -type l ! -path '$mnt/dev/*' ! -path '$mnt/proc/*' ! -path '$mnt/sys/*' | head -n 3)\""
for lib in libmicrohttpd.so libzip.so libjansson.so libopenblas.so; do
    check "$lib and its copyright notice" sh -c "ls '$mnt'/lib/*/$lib.* '$mnt'/usr/share/doc/${lib%.so}*/copyright >/dev/null"
done

# A uid that the image does not know and that owns nothing: what runs so needs no writable root.
# Loopback only: the image's own [::] is replaced for this test.
out=$build/log/image-run.log
$b run --isolation chroot --user 23456:34567 "$ctr" -- /usr/local/bin/saed --listen 127.0.0.1:0 \
    digits=/dictionaries/digits.pt words=/dictionaries/words.safetensors:labels=/usr/share/saed/words.labels.json >"$out" 2>"$build/log/image-run.err" &
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
check "answers in words" sh -c "curl -sS --fail --json @deploy/demo/music.json '$url/v1/dictionaries/words/encode?top_k=2&labels=true' | grep -q musician"
check "probe says ready" $b run --isolation chroot "$ctr" -- /usr/local/bin/saed --probe "$url/readyz"
kill "$(leaf "$pid")"
if wait "$pid"; then ok "SIGTERM stops it with status 0"; else bad "SIGTERM stops it with status 0"; fi
pid=
check "OpenBLAS is there for --engine openblas" $b run --isolation chroot "$ctr" -- \
    /usr/local/bin/saed --engine openblas --check digits=/usr/share/saed/digits.pt
# The command line that the image carries: it starts, but its [::] is only parsed here.
check "the image's own arguments are valid" $b run --isolation chroot "$ctr" -- \
    /usr/local/bin/saed --listen '[::]:8673' --insecure-no-auth --check digits=/usr/share/saed/digits.pt words=/usr/share/saed/words.safetensors:labels=/usr/share/saed/words.labels.json

# The same files and loopback as any other daemon of the tests, but the image's binary and libraries.
cat >"$build/image-saed" <<EOF
#!/bin/sh
exec '$mnt/lib64/ld-linux-x86-64.so.2' --inhibit-cache --library-path \\
    "\${LD_LIBRARY_PATH:+\$LD_LIBRARY_PATH:}$(echo "$mnt"/lib/*-linux-gnu)" '$mnt/usr/local/bin/saed' "\$@"
EOF
chmod +x "$build/image-saed"
echo "the tests, on the image's daemon:"
SAED_BIN="$build/image-saed" sh tests/support/run.sh "$build" "$@"
check "the tests pass on the image's daemon" test $? -eq 0
finish
