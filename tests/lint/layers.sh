#!/bin/sh
# layers.sh - the direction of dependencies, checked on every #include (house rule, README's tour).
# Prints each wrong line; exit 1 if there is one.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0 ruled=''
# rule PLACES ALLOWED-REGEX: quoted includes of these files, or of the files right in these folders, must
# match. A file falls under the first rule that reaches it.
rule() {
    for f in $(for place in $1; do
        if [ -d "$place" ]; then find "$place" -maxdepth 1 -regex '.*\.\([ch]\|cc\|inc\)'; else echo "$place"; fi
    done); do
        case "$ruled " in *" $f "*) continue ;; esac
        ruled="$ruled $f"
        out=$(grep -nE '^ *# *include "' "$f" | grep -vE "\"($2)\"")
        [ -z "$out" ] && continue
        echo "$f: includes what its layer may not:"
        echo "$out" | sed 's/^/    /'
        bad=1
    done
}
low='lib/(base|num|nearest|scan|cpu|types|dtype|matrix|sha256)\.h'
wire="$low|proto/[a-z_]+\.(h|def)"
# lib: base <- format <- load <- dict <- engine <- engine/batch, engine/native
rule 'lib/saed.h lib/source.h lib/info.h' "$low|lib/(source|info)\.h"
rule lib "$low"
rule lib/format "$low|lib/format/[a-z_]+\.h"
rule lib/load "$low|lib/format/[a-z_]+\.h|lib/load/[a-z_]+\.h"
dict="$low|lib/(saed|source|info|judge)\.h|lib/load/(load|hints|facts|config|folder|labels)\.h|lib/dict/[a-z_]+\.h"
rule lib/dict "$dict|lib/dict/producers/producers\.h"
rule lib/dict/producers "$dict|lib/dict/producers/[a-z_]+\.h"
rule lib/engine/kern 'lib/(types|matrix|dtype)\.h|lib/engine/kern/[a-z_0-9]+\.(h|inc)'
engine="$low|lib/saed\.h|lib/dict/(dict|unit|ref)\.h|lib/engine/engine\.h|lib/engine/batch/plan\.h|lib/engine/kern/[a-z]+\.h"
rule 'lib/engine lib/engine/batch' "$engine"
rule lib/engine/native "$engine|lib/engine/native/[a-z_]+\.h"
# proto: what all forms share <- json <- safetensors
format='lib/format/(json_scan|safetensors|npy)\.h'
rule proto "$wire|$format|proto/json/numtext\.h"
rule proto/json "$wire|$format|proto/json/[a-z_]+\.h"
rule proto/safetensors "$wire|$format|proto/json/[a-z_]+\.h|proto/safetensors/[a-z_]+\.h"
# server: what all share <- report <- sched, net <- api <- what wires them together
own() { # FILE ALLOWED-REGEX: server/FILE.[ch], itself aside
    rule "$(ls server/"$1".[ch])" "server/$1\.h|$2"
}
own clock ''
own budget 'lib/base\.h'
own team 'lib/base\.h'
own origin 'lib/(base|scan)\.h'
own address 'lib/(base|scan)\.h|server/origin\.h'
own slack 'lib/base\.h|server/report/process\.h'
own handle 'lib/(base|saed)\.h|server/report/metrics\.h' # it has its series
own registry 'server/handle\.h'
own loading 'lib/(num|saed)\.h|server/(clock|handle)\.h|server/opts/(cgroup|memory|opts)\.h|server/report/log\.h'
own sample 'lib/(judge|saed)\.h'
own probe 'lib/(base|saed|scan)\.h|server/(address|clock)\.h'
own version 'lib/(base|cpu|saed|sha256)\.h|lib/format/(zip|zstandard)\.h|server/(net/http|opts/opts)\.h'
own check 'server/(loading|sample|service|team|api/keys|offers/find|opts/opts)\.h'
rule server/report "$low|lib/saed\.h|proto/(errors|ops)\.def|server/report/[a-z_]+\.h"
rule server/sched 'lib/(base|types|saed)\.h|server/(clock|handle)\.h|server/sched/[a-z_]+\.h'
rule server/net "$wire|server/(address|clock)\.h|server/(net|report)/[a-z_]+\.h"
rule server/opts "$low|lib/saed\.h|server/(address|origin)\.h|server/report/log\.h|server/opts/[a-z_]+\.(h|def)"
rule server/offers "$low|lib/saed\.h|server/(clock|handle|loading|registry|team)\.h|server/(offers|opts|report)/[a-z_]+\.h"
rule server/web 'lib/base\.h|server/web/files\.(h|def)'
rule server/api "$wire|server/web/files\.(h|def)|lib/format/coding\.h|proto/json/numtext\.h|lib/saed\.h|server/(budget|clock|handle|origin|registry)\.h|server/(api|net|sched|offers|opts|report)/[a-z_]+\.h"
# these alone may have all of it
rule "$(ls server/service.[ch] server/daemon.[ch] server/main.c)" "lib/saed\.h|server/[a-z_]+\.h|server/(api|net|sched|offers|opts|report)/[a-z_]+\.h"
for f in $(git ls-files 'lib/*.[ch]' 'lib/*.inc' 'proto/*.[ch]' 'proto/*.cc' 'server/*.[ch]'); do
    case "$ruled " in *" $f "*) ;; *)
        [ -f "$f" ] || continue
        echo "$f: no rule says what it may include"
        bad=1
        ;;
    esac
done
# A file that long has two subjects.
for f in $(git ls-files 'lib/*.[ch]' 'proto/*.[ch]' 'proto/*.cc' 'server/*.[ch]'); do
    [ -f "$f" ] && n=$(wc -l <"$f") && [ "$n" -gt 600 ] && echo "$f: has $n lines, 600 is the limit" && bad=1
done
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
# server/net alone knows libmicrohttpd: http.c and its pieces have it from exchange.h.
home 'microhttpd.h' 'server/net/exchange.h server/net/mhd.c'
home 'jansson.h' 'server/opts/config.c'
home 'cblas.h' 'lib/engine/blas.c'
home 'zip.h' 'lib/format/zip.c'
home 'zlib.h' 'lib/format/deflate.c'
home 'zstd.h' 'lib/format/zstandard.c'
home 'zstd_errors.h' 'lib/format/zstandard.c'
home 'nettle/[a-z0-9]*.h' 'lib/sha256.c'
home 'check.h' ''
[ "$bad" -eq 0 ] && echo "layers: ok"
exit "$bad"
