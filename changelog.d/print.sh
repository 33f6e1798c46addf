#!/usr/bin/env bash
# Prints the release notes in this folder as sections of CHANGELOG.md. Without notes, it prints nothing.
set -euo pipefail
shopt -s nullglob

cd "$(dirname "${BASH_SOURCE[0]}")"
for heading in Added Changed Deprecated Removed Fixed Security; do
    notes=(*."$(tr '[:upper:]' '[:lower:]' <<<"$heading")".md)
    ((${#notes[@]})) || continue
    printf '### %s\n\n' "$heading"
    cat "${notes[@]}"
    printf '\n'
done
