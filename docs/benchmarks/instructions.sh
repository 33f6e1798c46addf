#!/bin/sh
# Instructions that Tidegate executes for one delivery, the kernel's not among them: the difference of two runs under
# valgrind's callgrind, one of which is longer. Steadier than any time. Needs valgrind and a release build.
#   docs/benchmarks/instructions.sh target/release/tidegate fanout --sockets 200 --rate 50
set -eu
program=$(realpath "$1")
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Not `exec`: the bench kills what it has started, and callgrind tells its sum only when it is asked to end.
cat > "$folder/under-callgrind" <<EOF
#!/bin/sh
valgrind -q --tool=callgrind --callgrind-out-file="$folder/out" "$program" "\$@" &
echo \$! > "$folder/pid"
wait
EOF
chmod +x "$folder/under-callgrind"
measure() {
    seconds=$1
    shift
    "$program" bench "$@" --seconds "$seconds" --rounds 1 --tidegate "$folder/under-callgrind" > "$folder/table"
    kill -TERM "$(cat "$folder/pid")"
    until grep -aqs '^totals\|^summary' "$folder/out"; do sleep 0.2; done
    received=$(grep '^| received' "$folder/table" | tr -cd 0-9)
    instructions=$(grep -a '^totals\|^summary' "$folder/out" | head -n 1 | tr -cd 0-9)
    rm "$folder/out"
}
measure 5 "$@"
short_received=$received short_instructions=$instructions
measure 15 "$@"
echo "$(((instructions - short_instructions) / (received - short_received))) instructions a delivery: $*"
