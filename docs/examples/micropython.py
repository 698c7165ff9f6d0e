# A pacemaker with MicroPython (ESP32, Pico W). Needs umqtt.robust (mpremote mip install umqtt.robust) and a network that is up
# (boot.py). Not run on a device by Tidegate's tests: its syntax alone is checked.
import time

from machine import unique_id
from ubinascii import hexlify
from umqtt.robust import MQTTClient

BROKER = "192.168.1.10"
USER, PASSWORD = "pacemaker", "the broker's password"
EVERY_S = 10

client = MQTTClient(b"pacemaker-" + hexlify(unique_id()), BROKER, user=USER, password=PASSWORD, keepalive=60)
client.connect(clean_session=False)

while True:
    # QoS 1: this returns when the broker has the reading. umqtt.robust connects anew and sends again by itself.
    client.publish(b"patient/beats/bpm", b"Beats: 70.00 bpm", retain=False, qos=1)
    client.publish(b"patient/tension/mmHg", b"Tension: 120.00 mmHg", retain=False, qos=1)
    time.sleep(EVERY_S)
