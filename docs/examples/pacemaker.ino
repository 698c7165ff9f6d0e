// The paper's pacemaker: an ESP32 that publishes beats and blood pressure every ten seconds. Needs the library "MQTT" by Joël Gähwiler
// (256dpi), which publishes at QoS 1; PubSubClient, as it is often used, publishes at QoS 0 alone. Not compiled by Tidegate's tests.
#include <MQTT.h>
#include <WiFi.h>

const char ssid[] = "ward", wifiPassword[] = "secret";
const char broker[] = "192.168.1.10", user[] = "pacemaker", password[] = "secret";
const unsigned long everyMs = 10000;

WiFiClient network;
MQTTClient client(256);
unsigned long last = 0;

void connect() {
  while (WiFi.status() != WL_CONNECTED) delay(500);
  // The session is kept: what the broker had not acknowledged is sent again.
  while (!client.connect("pacemaker-1", user, password)) delay(1000);
}

bool publish(const char *topic, const char *reading) {
  // Not retained, QoS 1: true once the broker has it.
  return client.publish(topic, reading, false, 1);
}

void setup() {
  WiFi.begin(ssid, wifiPassword);
  client.begin(broker, network);
  client.setCleanSession(false);
  connect();
}

void loop() {
  client.loop();
  if (!client.connected()) connect();
  if (millis() - last < everyMs) return;
  // Kept until the broker has both.
  while (!publish("patient/beats/bpm", "Beats: 70.00 bpm")) connect();
  while (!publish("patient/tension/mmHg", "Tension: 120.00 mmHg")) connect();
  last = millis();
}
