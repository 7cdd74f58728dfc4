#!/bin/sh
# tables.sh - what is a row of a table is not asked for by name elsewhere: no switch and no comparison over a
# class, unit, format, codec, operation or engine outside its table (house rule, CONTRIBUTING.md's recipes).
# Prints each wrong line; exit 1 if there is one.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
# only WHAT PATTERN FILES...: comments aside, lines of lib, proto and server that match stand in FILES alone.
# A file that no longer has such a line is no longer to be listed.
only() {
    what=$1 pattern=$2
    shift 2
    found=$(grep -rnE --include='*.[ch]' --include='*.inc' --include='*.cc' . lib proto server |
        sed -E 's@^([^:]*:[0-9]*:) *\*.*@\1@; s@/[/*].*@@' | grep -E "$pattern")
    for f in "$@"; do
        echo "$found" | grep -q "^$f:" || { echo "$f: is listed for $what and has none" && bad=1; }
        found=$(echo "$found" | grep -v "^$f:")
    done
    [ -z "$found" ] && return
    echo "$what outside its table:"
    echo "$found" | sed 's/^/    /'
    bad=1
}
# compared NAMES: `case NAME`, `== NAME`, `NAME ==`, `!=` alike
compared() {
    printf '%s' "(case|[!=]=) *\(?($1)\b|\b($1) *[!=]="
}
# Classes have capitals; what is stated or of a format has none.
classes=$(sed -nE 's/^ *\.name = "([A-Z][A-Za-z0-9]+)",.*/\1/p' lib/dict/layout.c | paste -sd '|')
[ -n "$classes" ] || { echo 'lib/dict/layout.c: no class found' && bad=1; }

only 'a class by name' "\"($classes)\"" lib/dict/layout.c
only 'a unit' '\bSAE_UNIT_[A-Z_]+\b' lib/types.h lib/dict/unit.h lib/dict/unit.c lib/dict/layout.c \
    lib/dict/reading.c lib/dict/reading.h lib/engine/kern/units.inc
only 'an activation' '\bSAE_ACTIVATION_[A-Z_]+\b' lib/dict/reading.h lib/dict/settle.c
only 'a format' '\bsae_reader_[a-z0-9]+\b' lib/load/load.c lib/load/reader.h lib/load/pt.c lib/load/st.c \
    lib/load/numpy.c

# A producer's format, that is a row of layouts or of what tells one: data names it, no condition.
only "a producer's format" 'strcmp\([^;"]*format[^;"]*"|\bsae_layout_(of_format|by_name)\("'
# Of a file's format everybody else asks what follows from it, and has its name for messages alone.
names=$(sed -nE 's/^    \.name = "([a-z]+)",$/\1/p' lib/load/*.c | paste -sd '|')
[ -n "$names" ] || { echo 'lib/load: no format found' && bad=1; }
only "a format's name" "\bsae_load_container\(" lib/load/load.h lib/load/load.c lib/dict/judge.c
only 'a format by name' "\"($names)\"" lib/load/pt.c lib/load/st.c lib/load/numpy.c proto/codecs.c

# What an operation comes to for a formula is worked out in one place; and what cannot be.
only 'an operation' "$(compared 'SAE_OP_[A-Z]+')" lib/engine/batch/plan.c
only 'a second tensor' '"(gate|pre_jump)"' lib/dict/unit.c
only 'an option' "$(compared 'SAE_OPT_[A-Z_]+')"
only "an aux's option" '\bSAE_OPT_(RETURN_GATE|OUTPUT_PRE_JUMP)\b' lib/types.h lib/dict/unit.c
only 'a codec' "$(compared 'SAE_MEDIA_[A-Z]+')"
# Engines: their own rows, and what --engine's choices are stored as.
only 'an engine' "$(compared 'SAE_ENGINE_[A-Z]+')|\"(native|openblas)\"" \
    lib/engine/blas.c lib/engine/native/encode.c server/opts/opts.c
# What a dictionary is read as the server knows from struct sae_dict_info, not from a reading's words; some of
# them are words of other things too.
words=$(grep -oE '\{"[a-z_]+", ARG_|\.name = "[a-z_]+"' lib/dict/reading.c | cut -d '"' -f 2 |
    grep -vxE 'none|all|value|features|decoder_norm' | paste -sd '|')
[ -n "$words" ] || { echo 'lib/dict/reading.c: no word found' && bad=1; }
found=$(grep -rnE --include='*.[ch]' "\"($words):?\"" server)
[ -z "$found" ] || { echo 'a word of a reading in server:' && echo "$found" && bad=1; }
# Digits are read by lib/scan.h, those of JSON by proto/json, those of files by lib/format and lib/load.
found=$(grep -rnE --include='*.[ch]' "[<>]=? *'0'|\bisx?digit\(" lib/*.[ch] lib/dict lib/engine proto server |
    grep -vE '^(lib/scan\.h|proto/json/[a-z]+\.c):')
[ -z "$found" ] || { echo 'digits that are read by hand:' && echo "$found" && bad=1; }
[ "$bad" -eq 0 ] && echo "tables: ok"
exit "$bad"
