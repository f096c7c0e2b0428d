#!/usr/bin/env bash
# Builds the extensions of the cases for one interpreter.
#
#   tests/cases/ext/build.sh PYTHON OUTDIR
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=$1 out=$2

{
    read -r include
    read -r suffix
} < <("$python" -I -c '
import sysconfig
print(sysconfig.get_path("include"))
print(sysconfig.get_config_var("EXT_SUFFIX"))
')
if [[ ! -e $include/Python.h ]]; then
    echo "ext: $include/Python.h is not there; install the headers of $python (Debian: python3-dev)" >&2
    exit 1
fi

# Optimized little, so that each function of the source is one on the stack.
# pyconfig.h of a Debian build lies below the folder next to it, which goes
# last: what else is there must not replace this machine's own headers.
flags=(-g -O1 -fno-inline -fno-builtin -shared -fPIC -I"$include" -idirafter "$(dirname "$include")")
mkdir -p "$out"
for source in "$here"/*.c "$here"/*.cpp; do
    name=$(basename "$source")
    case $source in
        *.c) compiler=(${CC:-cc}) ;;
        *) compiler=(${CXX:-c++}) ;;
    esac
    "${compiler[@]}" "${flags[@]}" -o "$out/${name%.*}$suffix" "$source" -lpthread
done
