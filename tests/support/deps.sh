#!/bin/sh
# deps.sh PACKAGE... - install the Debian packages that are missing, saying which.
# Needs root or sudo only when something is missing.
set -eu
missing=
for p in "$@"; do
    s=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
    case "$s" in installed*) ;; *) missing="$missing $p" ;; esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else
    echo "cannot install$missing: neither root nor sudo" >&2
    exit 1
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
