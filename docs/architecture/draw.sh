#!/bin/sh
# Draws overview.svg from overview.dot with Graphviz. Comments, ids and tooltips, which say nothing here and change with Graphviz's
# versions, are taken out; a title and a description for screen readers are put in.
set -eu
cd "$(dirname "$0")"

if ! command -v neato > /dev/null; then
    echo "Graphviz is missing: apt-get install graphviz, or brew install graphviz" >&2
    exit 1
fi

title='Overview: which code of Tidegate runs where'
desc='Producers publish to NATS. One Tidegate process has a thread for each core and the thread main. On each thread, a lane
reads from NATS, finds the feed and encodes a publication once; the pump hands it to the topics of the hub, which append it
to outboxes; transports write it to the streams of browsers. Other threads get a batch through their inbox. The acceptor on
main gives sockets to shards, whose HTTP and door begin connections. A message of a client goes from the stream over the
transport to its session, which reads it with a dialect and asks the hub, a lane or NATS.'

neato -n2 -Tsvg overview.dot | awk -v title="$title" -v desc="$desc" '
    /^<!DOCTYPE/ { getline; next }
    /^<!--/ { while ($0 !~ /-->/) getline; next }
    /^<svg / {
        getline box
        match(box, /viewBox="[^"]*"/)
        view = substr(box, RSTART, RLENGTH)
        split(view, numbers, /[ "]/)
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-labelledby=\"title desc\"\n"
        printf " width=\"%d\" height=\"%d\" %s>\n", numbers[4], numbers[5], view
        printf "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n", title, desc
        next
    }
    /^<title>/ { next }
    { gsub(/ id="[a-z]+[0-9]+"/, ""); gsub(/&#45;/, "-") }
    # A line of text is in the middle of its box with every font, and not only with the one that Graphviz has measured.
    /^<g class="node">/ { middle = "" }
    /^<path fill="#/ {
        curve = substr($0, index($0, " d=\"") + 4)
        gsub(/[MC"\/>]/, " ", curve)
        count = split(curve, points, " ")
        left = right = points[1] + 0
        for (at = 1; at <= count; at++) {
            x = points[at] + 0
            if (x < left) left = x
            if (x > right) right = x
        }
        middle = (left + right) / 2
    }
    /^<text text-anchor="start"/ && middle != "" {
        sub(/text-anchor="start" x="[-0-9.]+"/, "text-anchor=\"middle\" x=\"" middle "\"")
    }
    { print }
' > overview.svg.new
mv overview.svg.new overview.svg
