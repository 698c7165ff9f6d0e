"""The paper's receiver: a Flask app that takes PUT / with {"id_device", "data"} from behind its onion service, and shows what it has.
(The paper kept it in Redis; here it is kept in memory.)  Usage: python paper_receiver.py PORT"""

import sys

from flask import Flask, jsonify, request

app = Flask(__name__)
readings = []


@app.route("/", methods=["PUT"])
def put():
    body = request.get_json()
    readings.append({"id_device": body["id_device"], "data": body["data"]})
    return jsonify(success=True)


@app.route("/", methods=["GET"])
def get():
    return jsonify(readings)


app.run(host="127.0.0.1", port=int(sys.argv[1]))
