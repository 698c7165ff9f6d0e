"""What one writes in an evening: every message into a table, and committed. All settings are those one gets.

Arguments: the broker's port, the database, how many messages to wait for."""

import sqlite3
import sys

import paho.mqtt.client as mqtt

port, path, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
database = sqlite3.connect(path)
database.execute("CREATE TABLE readings (at TEXT DEFAULT CURRENT_TIMESTAMP, topic TEXT, payload BLOB)")
stored = 0


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe("ward/+/pulse", qos=1)


def on_message(client, userdata, message):
    global stored
    database.execute("INSERT INTO readings (topic, payload) VALUES (?, ?)", (message.topic, message.payload))
    database.commit()
    stored += 1
    if stored == wanted:
        print("done", flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
