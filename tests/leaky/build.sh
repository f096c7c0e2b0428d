#!/usr/bin/env bash
# Builds the extension of the leaky application for one interpreter.
#
#   tests/leaky/build.sh [PYTHON [OUTDIR]]      default: python3, tests/leaky/build
#
# Prints the folder that has to be on the interpreter's path.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
out=${2:-$here/build}

{
    read -r include
    read -r suffix
} < <("$python" -I -c '
import sysconfig
print(sysconfig.get_path("include"))
print(sysconfig.get_config_var("EXT_SUFFIX"))
')

if [[ ! -e $include/Python.h ]]; then
    echo "leaky: $include/Python.h is not there; install the headers of $python (Debian: python3-dev)" >&2
    exit 1
fi

# pyconfig.h of a Debian build lies below the folder next to it, which goes
# last: what else is there must not replace this machine's own headers.
mkdir -p "$out"
# (Whoever imports it meanwhile finds the old one, whole.)
fresh=$(mktemp "$out/rowpack.XXXXXX")
trap 'rm -f "$fresh"' EXIT
"${CC:-cc}" -g -O2 -Wall -Wextra -shared -fPIC -I"$include" -idirafter "$(dirname "$include")" \
    -o "$fresh" "$here/rowpack.c"
chmod 755 "$fresh"
mv "$fresh" "$out/rowpack$suffix"
echo "$out"
