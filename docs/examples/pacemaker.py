#!/usr/bin/env python3
"""A pacemaker that publishes by MQTT 5, and hears what became of each reading. Needs paho-mqtt 2 (pip install paho-mqtt).

    ./pacemaker.py --topic patient/beats/bpm --name pacemaker --count 3

It ends with 0 once every reading was delivered, refused or had expired; --accepted-only waits for the gateway's disk alone.
"""

import argparse
import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ENDS = {"delivered", "expired", "refused", "dropped", "purged"}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--broker", default="127.0.0.1")
    options.add_argument("--port", type=int, default=1883)
    options.add_argument("--topic", default="patient/beats/bpm")
    options.add_argument("--name", default="pacemaker", help="the device's name by the gateway's route")
    options.add_argument("--count", type=int, default=1)
    options.add_argument("--accepted-only", action="store_true")
    options.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer")
    options = options.parse_args()

    answers = queue.Queue()
    subscribed = queue.Queue()
    reply_to = f"tidegate/receipts/{options.name}"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(reply_to, qos=1)
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.on_message = lambda _client, _data, message: answers.put(message)
    client.connect(options.broker, options.port)
    client.loop_start()
    subscribed.get(timeout=options.timeout)

    open_ones = set()
    for number in range(options.count):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = reply_to
        properties.CorrelationData = str(number).encode()
        # Kept until the broker has acknowledged it.
        client.publish(options.topic, f"Beats: {70 + number}.00 bpm", qos=1, properties=properties).wait_for_publish(
            options.timeout
        )
        open_ones.add(str(number))

    while open_ones:
        message = answers.get(timeout=options.timeout)
        receipt = json.loads(message.payload)
        which = message.properties.CorrelationData.decode()
        print(f"reading {which}: {receipt['state']}", flush=True)
        # A receipt comes at least once: twice does no harm.
        if receipt["state"] in ENDS or options.accepted_only:
            open_ones.discard(which)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    try:
        main()
    except queue.Empty:
        sys.exit("no answer in time: is the gateway connected to this broker?")
