"""The paper's way to receive: a Flask application that keeps the last value of each device, on Flask's own server.

That server closes the connection after each answer.
"""
import sys

from flask import Flask, request

application = Flask(__name__)
values = {}


@application.put("/")
def put():
    reading = request.get_json()
    values[reading["id_device"]] = reading["data"]
    return {"stored": True}


application.run(host="127.0.0.1", port=int(sys.argv[1]), threaded=True)
