import asyncio

import websockets
from behaviour import count, say, words
from websockets.asyncio.server import serve


async def talk(connection):
    path, query = words(connection.request.path)
    try:
        if path == "/count":
            await count(connection.send, asyncio.sleep, float(query["rate"]))
        async for message in connection:
            if path == "/close":
                await connection.close(int(query["code"]), query["reason"])
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        await connection.wait_closed()
        say("closed", path, connection.close_code)


async def main():
    async with serve(talk, "127.0.0.1", 0, ping_interval=0.5, ping_timeout=5, max_size=None) as server:
        say("version", websockets.__version__)
        say("listening", server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
