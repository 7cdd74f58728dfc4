#!/bin/sh
# test_install.sh BUILD - what `make demo`, `make install` and `make uninstall` do. Everything goes below a
# folder of its own; daemons listen on loopback and are stopped. The last line is "N passed, N failed".
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 pids=
ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; }
check() { # check WHAT COMMAND...
    what=$1; shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
tmp=$(mktemp -d) || exit 1
# shellcheck disable=SC2154
trap 'for p in $pids; do kill "$p" 2>/dev/null; done; rm -rf "$tmp"' EXIT
prefix=$tmp/prefix
make="make --no-print-directory BUILD=$build PREFIX=$prefix"

# ---- demo: a second one has a daemon and a URL of its own

for n in 1 2; do
    sh deploy/demo/demo.sh "$build/saed" >"$tmp/demo$n" 2>&1 || { cat "$tmp/demo$n"; bad "demo $n"; }
    sed -n 's/^Still serving at \([^ ]*\) as pid \([0-9]*\).*/\1 \2/p' "$tmp/demo$n" >"$tmp/end$n"
    read -r url pid <"$tmp/end$n" || bad "demo $n says where it serves"
    pids="$pids ${pid:-}"
    eval "url$n=\${url:-} pid$n=\${pid:-}"
done
# shellcheck disable=SC2154
{
    check "the second demo has a port of its own" test "$url1" != "$url2"
    check "the second demo has a process of its own" test "$pid1" != "$pid2"
    for n in 1 2; do
        eval "url=\$url$n pid=\$pid$n"
        check "demo $n serves there" curl -sS --fail -o "$tmp/out" "$url/readyz"
        check "demo $n is that process" sh -c "curl -sS '$url/metrics' | grep -q '^process_open_fds' &&
            tr '\\0' ' ' <'/proc/$pid/cmdline' | grep -q '^$build/saed --listen .* digits='"
        check "demo $n shows its answers" grep -q "^\$ curl -s $url/v1/dictionaries/digits" "$tmp/demo$n"
        check "demo $n shows words" grep -q "^    music .*[a-z], [a-z].* [0-9]" "$tmp/demo$n"
        kill "$pid"
    done
}

# ---- install

check "install" sh -c "$make install >'$tmp/out' 2>&1 || { cat '$tmp/out'; false; }"
for f in bin/saed lib/systemd/system/saed.service etc/saed/config.json share/saed/digits.pt \
    share/saed/words.safetensors share/saed/words.labels.json share/doc/saed/LICENSE.WordNet share/saed/openapi.json share/doc/saed/README.md share/doc/saed/LICENSE; do
    check "installs $f" test -s "$prefix/$f"
done
check "the binary is stripped" sh -c "! readelf -S '$prefix/bin/saed' | grep -q debug_info"
unit=$prefix/lib/systemd/system/saed.service
check "the unit starts what was installed" grep -qx "ExecStart=$prefix/bin/saed --config $prefix/etc/saed/config.json" "$unit"
check "the unit names no other place" sh -c "! grep -q /usr/local '$unit'"
# As shipped, but for the port, which may be taken.
"$prefix/bin/saed" --config "$prefix/etc/saed/config.json" --listen 127.0.0.1:0 >"$tmp/out" 2>"$tmp/err" &
pid=$!
pids="$pids $pid" url=
for _ in $(seq 100); do
    url=$(sed -n 's/^listening on //p' "$tmp/out")
    [ -z "$url" ] && kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
check "the example config starts as shipped" test -n "$url"
check "and serves the digits" sh -c "curl -sS --fail --json @deploy/demo/sample.json '$url/v1/dictionaries/digits/encode?top_k=2' | grep -q '\"values\":'"
check "and the words" sh -c "curl -sS --fail --json @deploy/demo/music.json '$url/v1/dictionaries/words/encode?top_k=2&labels=true' | grep -q musician"
kill "$pid"
check "and stops with status 0" wait "$pid"

echo '{"dictionaries": [{"name": "mine", "source": "identity:2"}]}' >"$prefix/etc/saed/config.json"
check "install again" sh -c "$make install >/dev/null 2>&1"
check "keeps a config that was edited" grep -q mine "$prefix/etc/saed/config.json"
check "uninstall" sh -c "$make uninstall >/dev/null 2>&1"
check "uninstall leaves the edited config alone" test "$(cd "$prefix" && find . -type f)" = ./etc/saed/config.json
rm -r "$prefix"
check "install into DESTDIR" sh -c "make --no-print-directory BUILD=$build DESTDIR=$tmp/dest PREFIX=/usr install >/dev/null 2>&1"
check "for which the config is in /etc" grep -q '"/usr/share/saed/digits.pt"' "$tmp/dest/etc/saed/config.json"
check "and so are the words' labels" grep -q ':labels=/usr/share/saed/words.labels.json"' "$tmp/dest/etc/saed/config.json"
check "and the unit says so" grep -qx "ExecStart=/usr/bin/saed --config /etc/saed/config.json" "$tmp/dest/usr/lib/systemd/system/saed.service"
check "uninstall from DESTDIR" sh -c "make --no-print-directory BUILD=$build DESTDIR=$tmp/dest PREFIX=/usr uninstall >/dev/null 2>&1"
check "uninstall leaves nothing" test -z "$(find "$tmp/dest" -type f)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
