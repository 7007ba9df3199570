"""With Flask: flask --app examples/flask_app run"""

import os

from flask import Flask, Response, request

from authio_actions import Receiver
from triggers import decide

receiver = Receiver(os.environ["AUTHIO_ACTION_SECRETS"].split(","))
app = Flask(__name__)


@app.post("/authio-action")
def action() -> Response:
    answer = receiver.answer(request.get_data(), request.headers.get("Authio-Signature"), decide)
    return Response(answer.body, answer.status, answer.headers)
