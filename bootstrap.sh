#!/bin/sh
# Sets up what is missing and runs one job: qualify, lab, tests, lint, benchmarks or confusion. Everything stays in this
# folder but the lab's QEMU and kernel, which take minutes to make: they are kept in the user's cache folder.
#   ./bootstrap.sh qualify [pytest options]
set -eu
cd "$(dirname "$0")"
job=${1:-}
case "$job" in
    qualify | lab | tests | lint | benchmarks | confusion) shift ;;
    *) echo "usage: ./bootstrap.sh qualify|lab|tests|lint|benchmarks|confusion [options for the job]" >&2; exit 2 ;;
esac

packages=
command -v python3 >/dev/null || packages="$packages python3"
python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
# The virtual driver's library is compiled on first use.
command -v cc >/dev/null && printf '#include <signal.h>\n' | cc -E - >/dev/null 2>&1 || packages="$packages gcc libc6-dev"
if [ "$job" = lab ]; then # the kernel is built from the distribution's source
    for tool in make flex bison bc perl; do command -v "$tool" >/dev/null || packages="$packages $tool"; done
    command -v xz >/dev/null || packages="$packages xz-utils"
    # A stock kernel's modules are indexed by the one and loaded by the other, from an initramfs.
    command -v kmod >/dev/null || packages="$packages kmod"
    command -v busybox >/dev/null || packages="$packages busybox-static"
    printf '#include <gelf.h>\n' | cc -E - >/dev/null 2>&1 || packages="$packages libelf-dev"
fi
if [ -n "$packages" ]; then
    as_root=; [ "$(id -u)" = 0 ] || as_root=sudo
    echo "installing$packages" >&2
    # shellcheck disable=SC2086 # a list of words
    $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "dmaproof needs Python 3.11 or later; $(python3 --version) is what python3 is here" >&2; exit 2; }

[ -x .venv/bin/tox ] || { python3 -m venv .venv && .venv/bin/python -m pip install --quiet tox; }
exec .venv/bin/python -m tox run -q -e "$job" -- "$@"
