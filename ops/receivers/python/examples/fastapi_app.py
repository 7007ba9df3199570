"""With FastAPI: uvicorn --app-dir examples fastapi_app:app"""

import os

from fastapi import FastAPI, Request, Response

from authio_actions import Receiver
from triggers import decide

receiver = Receiver(os.environ["AUTHIO_ACTION_SECRETS"].split(","))
app = FastAPI()


@app.post("/authio-action")
async def action(request: Request) -> Response:
    answer = receiver.answer(await request.body(), request.headers.get("authio-signature"), decide)
    return Response(answer.body, answer.status, answer.headers)
