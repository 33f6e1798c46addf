#!/usr/bin/env bash
# Prints the path of the `nats` command that the tests use. If it is not in the cache, builds the pinned version with Go.
#
# TIDEGATE_NATS_CLI is the path of one to use instead. With --cached, the script builds nothing, and fails without a
# command. Standard output has only the path; everything else goes to standard error. Go checks the sources against its
# checksum database.
set -euo pipefail

version=0.5.1
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
cached=$cache/nats-cli-$version/nats

say() { printf '%s\n' "$*" >&2; }

give_up() {
    say "error: the nats command $version is not here: $1"
    say "Install Go 1.21 or newer (https://go.dev/dl; Debian 12's own is older), and run the command again, or set"
    say "TIDEGATE_NATS_CLI to the path of a nats command (https://github.com/nats-io/natscli)."
    exit 1
}

if [[ -n ${TIDEGATE_NATS_CLI:-} ]]; then
    "$TIDEGATE_NATS_CLI" --version >/dev/null 2>&1 || {
        say "error: TIDEGATE_NATS_CLI=$TIDEGATE_NATS_CLI is not a nats command: correct or unset it"
        exit 1
    }
    printf '%s\n' "$TIDEGATE_NATS_CLI"
    exit
fi
if [[ ! -x $cached ]]; then
    [[ ${1:-} != --cached ]] || exit 1
    command -v go >/dev/null || give_up "Go, which builds it, is not installed"
    # Older versions cannot load a newer version of themselves.
    [[ $(go env GOVERSION) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21)) || give_up "$(go version) is too old"
    say "building the nats command $version …"
    mkdir -p "$cache" || give_up "$cache cannot be written"
    scratch=$(mktemp -d "$cache/nats-cli.XXXXXX") || give_up "$cache cannot be written"
    trap 'rm -rf "$scratch"' EXIT
    GOBIN=$scratch GOFLAGS=-trimpath GOTOOLCHAIN=auto go install "github.com/nats-io/natscli/nats@v$version" >&2 ||
        give_up "go could not build it (its message is above)"
    mkdir -p "$(dirname "$cached")"
    # This renames within one file system, so two simultaneous runs leave one complete file.
    mv -f "$scratch/nats" "$cached"
fi
printf '%s\n' "$cached"
