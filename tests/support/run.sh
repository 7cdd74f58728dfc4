#!/bin/sh
# run.sh BUILD PROGRAM... - run Check programs, as many at a time as there are CPUs; print what fails,
# say the failures again, sum up. Those that run a daemon run $SAED_BIN, BUILD/saed unless it is set.
# The last line is "N passed, N failed[, N skipped]"; exit 1 when any check failed.
# A test program prints "SKIP: reason" for each check that this machine cannot run.
set -u
build=$1
shift
passed=0 failed=0 skipped=0
mkdir -p "$build/log"

log_of() {
    echo "$build/log/$(echo "${1#"$build"/tests/}" | tr / _).log"
}

# The lines of a failing program that name the check or the fault; its last ones where none does.
why() {
    grep -E ':[FE]:[^:]+:[^:]+:-?[0-9]+: |^(FAIL|ERROR): |runtime error: |ERROR: .*Sanitizer|^SUMMARY: ' "$1" ||
        tail -n 6 "$1"
}

: >"$build/log/failures"
# The programs that wait for deadlines go first and those that compute much next, so that none of
# them comes last alone.
for t in "$@"; do echo "$t"; done >"$build/log/programs"
grep '/tests/http/' "$build/log/programs" >"$build/log/order"
grep '/tests/unit/engine/' "$build/log/programs" >>"$build/log/order"
grep -v -e '/tests/http/' -e '/tests/unit/engine/' "$build/log/programs" >>"$build/log/order"
export build SAED_BIN="${SAED_BIN:-$build/saed}"
# Check ends a test after 4 s; a sanitizer or a busy machine may need longer.
export CK_TIMEOUT_MULTIPLIER="${CK_TIMEOUT_MULTIPLIER:-10}"
# A process a check, as Check has it, is a search for leaks a check under ASan, which takes longer
# than most checks: there a program's checks share its process, and `timeout` ends one that hangs.
export run=
if grep -q __asan_init "$SAED_BIN"; then
    export CK_FORK=no run='timeout 900'
fi
# shellcheck disable=SC2016
xargs -P "$(nproc)" -I{} sh -c '
    log=$build/log/$(echo "${1#"$build"/tests/}" | tr / _).log
    begin=$(date +%s)
    $run "$1" >"$log" 2>&1
    echo "exit status $? after $(($(date +%s) - begin)) s" >>"$log"' sh {} <"$build/log/order"

for t in "$@"; do
    log=$(log_of "$t")
    name=$(basename "$log" .log)
    rc=$(sed -n 's/^exit status \([0-9]*\) after .*/\1/p' "$log" | tail -n 1)
    took=$(sed -n 's/^exit status [0-9]* after //p' "$log" | tail -n 1)
    line=$(grep -E '^[0-9]+%: Checks: ' "$log" | tail -n 1)
    n=$(echo "$line" | sed -n 's/.*Checks: \([0-9]*\).*/\1/p')
    f=$(echo "$line" | sed -n 's/.*Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 + \2/p')
    s=$(grep -c '^SKIP: ' "$log")
    n=${n:-0} f=$((${f:-0}))
    if [ "${rc:-1}" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; n=$((n + 1)); fi
    passed=$((passed + n - f)) failed=$((failed + f)) skipped=$((skipped + s))
    echo "$name: $n checks, $f failed, ${took:-no end}"
    if [ "$f" -gt 0 ]; then
        sed 's/^/    /' "$log" | tail -n 60
        { echo "$name: $f failed"; why "$log" | cut -c 1-300 | sed 's/^/    /' | head -n 8; } >>"$build/log/failures"
    fi
    grep '^SKIP: ' "$log" | sort | uniq -c | sed 's/^/    /'
done
# Once more at the end, which is what is kept of a long log.
if [ -s "$build/log/failures" ]; then
    echo "what failed:"
    head -n 27 "$build/log/failures"
fi
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
