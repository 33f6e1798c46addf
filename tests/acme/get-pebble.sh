#!/usr/bin/env bash
# Prints the path of a folder with `pebble`, the test server of Let's Encrypt for ACME, and `pebble-challtestsrv`, its DNS
# server. If they are not in the cache, builds the pinned version with Go.
#
# With --cached, the script builds nothing, and fails without them. Standard output has only the path; everything else
# goes to standard error. Go checks the sources against its checksum database.
set -euo pipefail

version=2.10.3
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
folder=$cache/pebble-$version

say() { printf '%s\n' "$*" >&2; }

give_up() {
    say "error: Pebble $version is not here: $1"
    say "Install Go 1.21 or newer (https://go.dev/dl; Debian 12's own is older), and run the command again."
    exit 1
}

if [[ ! -x $folder/pebble || ! -x $folder/pebble-challtestsrv ]]; then
    [[ ${1:-} != --cached ]] || exit 1
    command -v go >/dev/null || give_up "Go, which builds it, is not installed"
    say "building Pebble $version …"
    mkdir -p "$cache" || give_up "$cache cannot be written"
    scratch=$(mktemp -d "$cache/pebble.XXXXXX") || give_up "$cache cannot be written"
    trap 'rm -rf "$scratch"' EXIT
    for command in pebble pebble-challtestsrv; do
        GOBIN=$scratch GOFLAGS=-trimpath GOTOOLCHAIN=auto \
            go install "github.com/letsencrypt/pebble/v2/cmd/$command@v$version" >&2 ||
            give_up "go could not build it (its message is above)"
    done
    mkdir -p "$folder"
    # These rename within one file system, so two simultaneous runs leave complete files.
    mv -f "$scratch/pebble" "$scratch/pebble-challtestsrv" "$folder"
fi
printf '%s\n' "$folder"
