#!/bin/sh
# One reading by MQTT. BROKER and PORT are 127.0.0.1 and 1883 unless said; with a password add -u NAME -P PASSWORD.
#   ./mosquitto_pub.sh patient/beats/bpm 'Beats: 70.00 bpm'
set -eu
# QoS 1: it ends when the broker has the reading.
exec mosquitto_pub -h "${BROKER:-127.0.0.1}" -p "${PORT:-1883}" -q 1 -t "$1" -m "$2"
