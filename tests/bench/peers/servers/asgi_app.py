"""An ASGI application; `with_asgi.py` runs it under several servers."""

import asyncio

from behaviour import count, say, words


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "websocket":
        return
    path, query = words(f"{scope['path']}?{scope['query_string'].decode()}")
    await receive()
    await send({"type": "websocket.accept"})
    counting = None
    if path == "/count":

        async def send_text(text):
            await send({"type": "websocket.send", "text": text})

        counting = asyncio.create_task(count(send_text, asyncio.sleep, float(query["rate"])))
        counting.add_done_callback(lambda task: task.cancelled() or task.exception())
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            say("closed", path, message.get("code"))
            break
        if path == "/close":
            await send({"type": "websocket.close", "code": int(query["code"]), "reason": query["reason"]})
        elif message.get("bytes") is not None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": message["text"]})
    if counting is not None:
        counting.cancel()
