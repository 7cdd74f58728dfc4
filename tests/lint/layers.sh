#!/bin/sh
# layers.sh - the direction of dependencies, checked on every #include (house rule, README's tour).
# Prints each wrong line; exit 1 if there is one.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
# rule FILES-GLOB ALLOWED-REGEX: quoted includes of these files must match.
rule() {
    for f in $1; do
        [ -f "$f" ] || continue
        out=$(grep -nE '^ *# *include "' "$f" | grep -vE "\"($2)\"")
        if [ -n "$out" ]; then
            echo "$f: includes what its layer may not:"
            echo "$out" | sed 's/^/    /'
            bad=1
        fi
    done
}
low='lib/(base|num|cpu|types)\.h'
rule 'lib/base.[ch] lib/num.[ch] lib/cpu.[ch] lib/types.h' "$low"
rule 'lib/load/*.[ch]' "$low|lib/load/[a-z_]+\.h"
rule 'lib/dict/*.[ch]' "$low|lib/saed\.h|lib/load/load\.h|lib/dict/[a-z_]+\.h"
rule 'lib/engine/*.[ch]' "$low|lib/saed\.h|lib/dict/(dict|arch|ref)\.h|lib/engine/[a-z_]+\.h|lib/engine/kern/[a-z]+\.h"
rule 'lib/engine/kern/*.[ch]' 'lib/engine/kern/[a-z_0-9]+\.(h|inc)'
rule 'lib/saed.h' "$low"
rule 'proto/*.[ch] proto/*.cc' "$low|proto/[a-z_]+\.(h|def)"
rule 'server/sched.[ch] server/sched_*.[ch]' 'lib/(base|types|saed)\.h|server/sched(_impl)?\.h'
rule 'server/http.[ch] server/head.[ch] server/conns.[ch] server/codec.[ch] server/listen.[ch] server/loop.[ch]' \
    "$low|proto/[a-z_]+\.(h|def)|server/(http|head|conns|codec|listen|loop|log|metrics)\.h"
rule 'server/opts.[ch] server/opts_*.[ch] server/cpus.[ch] server/process.[ch] server/log.[ch] server/metrics.[ch] server/registry.[ch] server/probe.[ch] server/routes*.[ch] server/service.[ch] server/daemon.[ch] server/main.c' \
    "$low|lib/saed\.h|proto/[a-z_]+\.(h|def)|server/[a-z_]+\.(h|def)"
# home HEADER FILES: a third-party header has one home.
home() {
    for f in $(grep -lE "# *include <$1>" -r lib proto server 2>/dev/null); do
        case " $2 " in *" $f "*) ;; *)
            echo "$f: <$1> belongs to $2"
            bad=1
            ;;
        esac
    done
}
home 'microhttpd.h' 'server/http.c'
home 'jansson.h' 'proto/json.c proto/safetensors.c lib/load/safetensors.c lib/load/folder.c server/opts_config.c'
home 'cblas.h' 'lib/engine/blas.c'
home 'zip.h' 'lib/load/zip.c'
home 'zlib.h' 'lib/load/zip.c'
home 'check.h' ''
[ "$bad" -eq 0 ] && echo "layers: ok"
exit "$bad"
