#!/bin/sh
# One reading by HTTP. GATEWAY is http://127.0.0.1:8000 unless said; with credentials add -u NAME:SECRET.
#   ./curl.sh cardiology patient 'Beats: 70.00 bpm'
set -eu
gateway=${GATEWAY:-http://127.0.0.1:8000}
destination=$1 device=$2 reading=$3
# The same key again is the same reading: repeat until there is a 2xx, and it is stored once.
key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
exec curl --silent --show-error --fail --retry 5 --retry-all-errors --max-time 20 \
    -X PUT "$gateway/v1/messages/$destination?device=$device" \
    -H 'Content-Type: text/plain' -H "Idempotency-Key: $key" --data-binary "$reading"
