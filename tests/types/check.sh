#!/bin/sh
# check.sh SAED - proto/openapi.json before a validator and a generator of types: examples fit their
# schemas, and client.ts compiles against the types and runs against SAED. The last line is
# "N passed, N failed".
set -u
saed=$1
cd "$(dirname "$0")" || exit 1
passed=0 failed=0 pid=
ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1"; }
check() { # check WHAT COMMAND...
    what=$1; shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null' EXIT
mkdir -p build
npm ci --no-audit --no-fund --ignore-scripts >build/npm.log 2>&1 || { tail -n 5 build/npm.log; bad "npm ci"; }
check "the lock file names no place" sh -c "! grep -q '\"resolved\"' package-lock.json"
node validate.mjs | grep -v '^ok ' >build/validate.log
grep '^FAIL' build/validate.log
sum=$(tail -n 1 build/validate.log)
check "validator and examples: $sum" sh -c "echo '$sum' | grep -qE '^[1-9][0-9]+ passed, 0 failed'"
check "types" node generate.mjs build/api.d.ts
check "a client compiles against them" node_modules/.bin/tsc -p .
"$saed" --listen 127.0.0.1:0 id=identity:4 >build/out 2>build/err &
pid=$!
for _ in $(seq 100); do
    url=$(sed -n 's/^listening on //p' build/out)
    [ -z "$url" ] && kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
node build/client.js "$url" >build/answers 2>&1
sed -n 's,.*console\.log.* // ,,p' client.ts >build/want
check "and gets what it says" cmp build/answers build/want || cat build/answers
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
