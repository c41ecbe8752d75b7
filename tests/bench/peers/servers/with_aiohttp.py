import asyncio

import aiohttp
from aiohttp import web
from behaviour import count, say, words


async def talk(request):
    path, query = words(request.path_qs)
    socket = web.WebSocketResponse(heartbeat=1.0, max_msg_size=0)
    await socket.prepare(request)
    counting = None
    try:
        if path == "/count":
            counting = asyncio.create_task(count(socket.send_str, asyncio.sleep, float(query["rate"])))
        async for message in socket:
            if path == "/close":
                await socket.close(code=int(query["code"]), message=query["reason"].encode())
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
    finally:
        if counting is not None:
            counting.cancel()
        say("closed", path, socket.close_code)
    return socket


async def main():
    app = web.Application()
    app.router.add_get("/{rest:.*}", talk)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say("version", aiohttp.__version__)
    say("listening", site._server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
